"""Pruned prompts trained again: whole, or with what is left of the first training's schedule."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from e2vpt.config import PruneConfig
from e2vpt.pruning.rewinding import Snapshot, rewind, snapshot
from e2vpt.pruning.selection import Selection
from e2vpt.runs.folders.folder import ADAPTER
from e2vpt.runs.folders.tried import Tried
from e2vpt.runs.prepare import Prepared, with_new_model
from e2vpt.runs.reporting import Reporting
from e2vpt.runs.run import train_into
from e2vpt.runs.trying import PruningTrial, tried_now
from e2vpt.training.fit import FitResult
from e2vpt.training.schedule import EpochRange


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Finalist:
    """A pruning trained again: where, with which figures, and what the model was then."""

    row: Tried
    selection: Selection
    folder: Path
    result: FitResult
    state: Snapshot


def epochs_around(prune: PruneConfig, epochs: int) -> tuple[EpochRange, EpochRange]:
    """The epochs before pruning and after it: parts of one schedule, or a whole one each."""
    first = prune.first_epochs(epochs)
    before = EpochRange(first=0, end=first)
    return before, (EpochRange(first=first, end=epochs) if prune.prunes_within else before)


def start_of(prepared: Prepared, prune: PruneConfig, origin: Snapshot, trained: Snapshot) -> Snapshot:
    """Where pruned prompts begin their second training."""
    if prune.rewind == "none":
        return trained
    start = origin if prune.rewind == "initial" else _fresh(prepared)
    return (
        start if prune.rewind_head else dataclasses.replace(start, head=trained.head, beside=trained.beside)
    )


def _fresh(prepared: Prepared) -> Snapshot:
    """Initial values of another seed."""
    train = dataclasses.replace(prepared.config.train, seed=prepared.config.train.seed + 1)
    return snapshot(with_new_model(prepared, dataclasses.replace(prepared.config, train=train)).model)


def trained_again(
    prepared: Prepared,
    start: Snapshot,
    trial: PruningTrial,
    part: EpochRange,
    folder: Path,
    reporting: Reporting,
) -> Finalist:
    """A pruning from its start on, in a folder of its own below the run's; these epochs of the schedule."""
    pair = (trial.row.tokens, trial.row.segments)
    rewind(prepared.model, start, trial.selection)
    result = train_into(
        prepared, folder, resume=True, training=_shares(trial.row), part=part, reporting=reporting
    )
    return Finalist(
        row=tried_now(
            prepared, "retrained", pair, size=num_bytes(folder / ADAPTER), epochs=len(result.history)
        ),
        selection=trial.selection,
        folder=folder,
        result=result,
        state=snapshot(prepared.model),
    )


def folder_names(rows: Sequence[Tried]) -> list[str]:
    """A folder for each of some prunings, called by its shares, with more digits where three say the same."""
    short, long = ([f"{row.tokens:{how}}-{row.segments:{how}}" for row in rows] for how in (".3f", ".9g"))
    return [name if short.count(name) == 1 else whole for name, whole in zip(short, long, strict=True)]


def said_of(row: Tried, part: EpochRange, epochs: int) -> str:
    """What is trained after pruning: these epochs of a schedule of so many."""
    begun = "Going on" if part.first else "Training again"
    return f"{begun} with {_shares(row)}{of_schedule(part, epochs)}"


def of_schedule(part: EpochRange, epochs: int) -> str:
    """Which epochs of its schedule a training has, where that is not all of them."""
    return "" if part.num_epochs == epochs else f", epochs {part.first + 1} to {part.end} of {epochs}"


def _shares(row: Tried) -> str:
    return f"{row.tokens:.0%} of tokens, {row.segments:.0%} of segments"


def num_bytes(path: Path) -> int:
    """Bytes of a file that only the first process writes."""
    return path.stat().st_size if path.exists() else 0
