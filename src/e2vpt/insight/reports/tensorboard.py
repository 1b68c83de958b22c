"""The figures of every epoch as TensorBoard logs, one run of TensorBoard for each training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from e2vpt.errors import needs
from e2vpt.insight.reports.record import training_folders
from e2vpt.runs.folders.folder import read_log
from e2vpt.training.checkpoint import Row

FOLDER = "tensorboard"


def tensorboard_log(out: Path) -> Callable[[Row], None]:
    """A function for `on_epoch` that copies what is new in the logs of a run folder to RUN/tensorboard.

    A resumed run writes the epochs before its interruption again, so that nothing is missing or doubled.

    Raises:
        MissingExtra: tensorboard is not installed.
    """
    with needs("tensorboard", "--tensorboard needs one more package"):
        from torch.utils.tensorboard import SummaryWriter
    writers: dict[Path, Any] = {}
    written: dict[Path, int] = {}

    def copy(_: Row) -> None:
        for folder in training_folders(out):
            rows = read_log(folder)
            if not rows:
                continue
            if folder not in writers:
                name = str(folder.relative_to(out)) if folder != out else "first"
                writers[folder] = SummaryWriter(str(out / FOLDER / name), purge_step=1)
            for epoch, row in enumerate(rows[written.get(folder, 0) :], written.get(folder, 0) + 1):
                for figure, value in row.items():
                    if figure != "epoch":
                        writers[folder].add_scalar(_tag(figure), value, epoch)
            written[folder] = len(rows)
            writers[folder].flush()

    return copy


def _tag(figure: str) -> str:
    """`loss/train`, so that TensorBoard puts training and validation side by side."""
    split, _, what = figure.partition("_")
    return f"{what}/{split}" if what else figure
