"""A run folder: the names of what lies in it, what kind of folder it is, and its log.

config.json              everything that was asked for; version and date of the start
splits.csv               every image: its split, class and content
log.jsonl, log.csv       one row of figures per epoch, of the training they stand beside
checkpoint.safetensors   the state after the last finished epoch, for --resume
last.safetensors         the adapter after the last finished epoch
adapter.safetensors      the adapter of the best epoch; written when everything is over
README.md                its model card
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from e2vpt.errors import RunError
from e2vpt.files.atomic import read_json_lines, write_csv, write_json_lines
from e2vpt.files.paths import look_at
from e2vpt.training.checkpoint import Row

ADAPTER, UNPRUNED, LAST, CHECKPOINT, CONFIG = (
    "adapter.safetensors",
    "unpruned.safetensors",
    "last.safetensors",
    "checkpoint.safetensors",
    "config.json",
)
PRUNE_FOLDER, GRID_FOLDER, TASKS = "prune", "grid", "tasks"
"""Folders below a run's: of pruning, of the paper's grid; below a comparison's: what the images of each task
are."""
_LOG = "log.jsonl"


def kind_of(saved: Mapping[str, Any]) -> Literal["run", "search", "comparison", "benchmark"]:
    """What a folder with these settings holds."""
    if "search" in saved:
        return "search"
    if "protocol" in saved:
        return "benchmark"
    return "comparison" if "tune_on" in saved else "run"


def holds_run(folder: Path) -> bool:
    """Whether a folder has the settings of a run.

    Raises:
        RunError: they cannot be read.
    """
    path = folder / CONFIG
    return look_at(path) != "nothing" and kind_of(read_config(path)) == "run"


def is_by_the_paper(run: Path) -> bool:
    """Whether a run is one of the paper's protocol."""
    return look_at(run / GRID_FOLDER / CONFIG) != "nothing"


def read_config(path: Path) -> dict[str, Any]:
    """A JSON object that `open_folder` wrote.

    Raises:
        RunError: it cannot be read.
    """
    try:
        values = json.loads(path.read_text())
        if not isinstance(values, dict):
            raise ValueError("expected a JSON object")
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error}). Restore it, or start a new run.") from error
    return values


def write_log(out: Path, history: list[Row], training: str) -> None:
    """Both logs whole, after every epoch: a resumed run leaves no gap. The table names the training."""
    write_json_lines(out / _LOG, history)
    rows = [{"training": training, **row} for row in history]
    write_csv(out / "log.csv", rows, list(rows[0]))


def read_log(folder: Path) -> list[Row]:
    """The rows of a training so far, none where it has not finished an epoch."""
    return read_json_lines(folder / _LOG)
