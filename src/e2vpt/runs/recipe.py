"""The paper's algorithm as one function: train, score, select, apply, rewind, retrain, keep the best.

What it adds to a run folder:
unpruned.safetensors     the adapter of the first training
prune/config.json        what was asked of pruning
prune/scores.safetensors how much each token and segment matters
prune/table.csv          every pruning that was looked at, with validation figures and sizes
prune/kept.svg           which tokens and segments of which block survived
prune/<tokens>-<segments>/  one training again, of pruned prompts
adapter.safetensors      the best of all, written when everything is over
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path

from e2vpt.config import PruneConfig
from e2vpt.config.fields import to_dict
from e2vpt.data import Task
from e2vpt.files.atomic import copy_atomic, write_atomic
from e2vpt.methods.counting import trainable_line
from e2vpt.pruning.picture import picture
from e2vpt.pruning.rewinding import Snapshot, rewind, snapshot
from e2vpt.runs.augmenting import asks, augmented, borne, switching
from e2vpt.runs.folders.folder import ADAPTER, PRUNE_FOLDER, UNPRUNED
from e2vpt.runs.folders.run_config import RunConfig
from e2vpt.runs.folders.tried import Tried, write_table
from e2vpt.runs.prepare import Prepared
from e2vpt.runs.reporting import Reporting
from e2vpt.runs.retraining import (
    Finalist,
    epochs_around,
    folder_names,
    num_bytes,
    of_schedule,
    said_of,
    start_of,
    trained_again,
)
from e2vpt.runs.run import Trained, opened_run, train_into
from e2vpt.runs.scoring import pairs_to_try, prunable, scores_of
from e2vpt.runs.trying import trials_of, tried_now
from e2vpt.training.fit import FitResult
from e2vpt.training.processes import as_the_first, is_first_process


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """A finished run with pruning.

    Attributes:
        trained: as of `train_run`; its result is that of the training whose adapter was kept.
        tried: the table of prunings.
    """

    trained: Trained
    tried: list[Tried]


def train_and_prune(
    task: Task,
    config: RunConfig,
    prune: PruneConfig | None,
    out: str | Path,
    *,
    resume: bool = False,
    like: Prepared | None = None,
    reporting: Reporting | None = None,
) -> Pruned:
    """Train, prune, rewind and train again (paper, algorithm 1), in a few trainings.

    The first training scores tokens and segments. Ways to keep `prune.keep` of them are applied to its result
    and evaluated as they are; the `prune.finalists` with the lowest validation loss are rewound and trained
    again. The best on validation is kept; the unpruned prompts only where they are better than it by more
    than `prune.tolerance`. With `prune.prune_at` below 1 the two are parts of one training and its schedule.
    A killed run resumes: finished trainings are not repeated.

    Raises:
        As `train_run`; ConfigError where there are no visual prompts to prune.
    """
    prune, out, reporting = prune or PruneConfig(), Path(out), reporting or Reporting()
    prune.first_epochs(config.train.epochs)  # cheap to refuse now
    parts = {PRUNE_FOLDER: to_dict(prune)}
    check = prunable(prune)
    with opened_run(task, config, out, resume=resume, like=like, parts=parts, check=check) as prepared:
        return _in_folder(prepared, prune, out, reporting)


def _in_folder(prepared: Prepared, prune: PruneConfig, out: Path, reporting: Reporting) -> Pruned:
    """What is missing of a run in its folder."""
    origin = snapshot(prepared.model)
    reporting.stage(trainable_line(prepared.model))
    epochs = prepared.config.train.epochs
    before, after = epochs_around(prune, epochs)
    reporting.stage(f"Training with all prompts{of_schedule(before, epochs)}")
    pairs = pairs_to_try(prune, prepared.model)
    # Without validation images there is nothing to choose by.
    again = min(prune.finalists, len(pairs)) if prepared.val is not None else 1
    batches = switching(prepared, out, reporting.stage, before.num_epochs)
    first = train_into(
        prepared,
        out,
        resume=True,
        adapter=UNPRUNED,
        training="all prompts",
        batches=batches,
        part=before,
        reporting=reporting.before(again),
    )
    trained = snapshot(prepared.model)
    reporting.stage("Scoring tokens and segments")
    path, of = out / PRUNE_FOLDER / "scores.safetensors", _digest(out / UNPRUNED)
    scores = scores_of(prepared, prune, path, of, reporting)
    size, trained_for = num_bytes(out / UNPRUNED), len(first.history)
    unpruned = tried_now(prepared, "unpruned", (1.0, 1.0), size=size, epochs=trained_for)
    trials = trials_of(prepared, prune, trained, scores, pairs, out)
    start = start_of(prepared, prune, origin, trained)
    if asks(prepared):
        rewind(prepared.model, trained)
        prepared = augmented(prepared, borne(prepared, out, reporting.stage).augment)
    rows = [unpruned, *(trial.row for trial in trials)]
    finalists: list[Finalist] = []
    names = folder_names([trial.row for trial in trials[:again]])
    for number, (trial, name) in enumerate(zip(trials, names, strict=False), 1):
        reporting.stage(said_of(trial.row, after, epochs))
        later = reporting.before(min(again, len(trials)) - number)
        folder = out / PRUNE_FOLDER / name
        finalists.append(trained_again(prepared, start, trial, after, folder, later))
        rows.append(finalists[-1].row)
        if is_first_process():
            write_table(out / PRUNE_FOLDER / "table.csv", rows)
    best = max(finalists, key=lambda finalist: (finalist.row.accuracy, -finalist.row.loss))
    is_pruned = prepared.val is None or best.row.accuracy >= unpruned.accuracy - prune.tolerance
    if is_first_process():
        write_atomic(out / PRUNE_FOLDER / "kept.svg", picture(best.selection, best.row.kept).encode())
    if is_pruned:
        return _kept(prepared, out, rows, best.row, best.state, best.result, best.folder / ADAPTER)
    return _kept(prepared, out, rows, unpruned, trained, first, out / UNPRUNED)


def _kept(
    prepared: Prepared,
    out: Path,
    rows: list[Tried],
    chosen: Tried,
    state: Snapshot,
    result: FitResult,
    adapter: Path,
) -> Pruned:
    """The run with the prompts of one row as its own, in the model, in the table and as its adapter."""
    rewind(prepared.model, state)
    rows = [dataclasses.replace(row, chosen=row is chosen) for row in rows]
    if is_first_process():
        write_table(out / PRUNE_FOLDER / "table.csv", rows)
        copy_atomic(adapter, out / ADAPTER)
    model = prepared.model.eval()
    done = Trained(model=model, preprocessing=prepared.preprocessing, adapter=out / ADAPTER, result=result)
    return Pruned(trained=done, tried=rows)


def _digest(path: Path) -> str:
    """Of a file that only the first process writes."""
    return as_the_first(hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "")
