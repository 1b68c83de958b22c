"""A folder that many runs lie in, as a search's: held to the settings, weights and images it began with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2vpt.backbones.fingerprint import fingerprint
from e2vpt.backbones.load import load_backbone
from e2vpt.data import Task
from e2vpt.files.atomic import make_folder
from e2vpt.runs.folders.identity import hold_images, image_rows
from e2vpt.runs.folders.lock import only_one
from e2vpt.runs.folders.opening import check_out, forget_failed_start, open_folder
from e2vpt.runs.folders.run_config import RunConfig


@contextmanager
def opened_for_runs(
    out: Path, config: RunConfig, settings: Mapping[str, Any], tasks: Mapping[Path, Task], *, resume: bool
) -> Iterator[None]:
    """Inside, the folder belongs to this process: a new one, or the one to be resumed.

    `tasks` are held each in a folder of its own.

    Raises:
        RunError: it was made with other settings, weights or images; or another process works there; or it
            cannot be written.
    """
    check_out(out, resume=resume)
    with only_one(out):
        forget_failed_start(out)
        open_folder(out, {**settings, "fingerprint": backbone_fingerprint(config)}, resume=resume)
        for folder, task in tasks.items():
            hold_task(folder, task)
        yield


def hold_task(folder: Path, task: Task) -> None:
    """Write which images a task has, or check that they are those that were written.

    Raises:
        RunError: they are others; or the folder cannot be written.
    """
    make_folder(folder)
    hold_images(folder, image_rows(task))


def backbone_fingerprint(config: RunConfig) -> str:
    """Of the weights that every run with these settings starts from."""
    return fingerprint(load_backbone(config.backbone, num_classes=1, weights=config.weights))
