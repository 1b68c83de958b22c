"""The table of prunings that a run looked at."""

from __future__ import annotations

import csv
import dataclasses
from dataclasses import dataclass
from pathlib import Path

from e2vpt.errors import RunError
from e2vpt.files.atomic import write_csv
from e2vpt.files.paths import look_at


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """One row of the table: a pruning that was looked at.

    Attributes:
        stage: "unpruned", "trial" (pruned, evaluated, not trained again) or "retrained".
        tokens, segments: shares that were asked for.
        kept: share of the visual prompt elements that stayed.
        num_tuned: parameters of the prompts that stayed, and what is tuned beside them.
        bytes: size of the adapter file.
        epochs: epochs trained for this row alone.
        accuracy, loss: on the validation images (on the training images where there are none).
        chosen: whether it became the run's adapter.
    """

    stage: str
    tokens: float
    segments: float
    kept: float
    num_tuned: int
    bytes: int
    epochs: int
    accuracy: float
    loss: float
    chosen: bool = False


def write_table(path: Path, rows: list[Tried]) -> None:
    """The rows as CSV, replacing the file at once."""
    columns = [field.name for field in dataclasses.fields(Tried)]
    write_csv(path, [dataclasses.asdict(row) for row in rows], columns)


def read_tried(path: Path) -> list[Tried]:
    """The rows of such a file; none where there is none.

    Raises:
        RunError: it cannot be read.
    """
    if look_at(path) == "nothing":
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [_row(cells) for cells in csv.DictReader(file, strict=True)]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise RunError(f"{path} cannot be read ({error}). Restore it, or start a new run.") from error


def _row(cells: dict[str, str]) -> Tried:
    numbers = {name: float(cells[name]) for name in ("tokens", "segments", "kept", "accuracy", "loss")}
    counts = {name: int(cells[name]) for name in ("num_tuned", "bytes", "epochs")}
    chosen = cells["chosen"] == "True"
    return Tried(stage=cells["stage"], chosen=chosen, **numbers, **counts)  # type: ignore[arg-type]
