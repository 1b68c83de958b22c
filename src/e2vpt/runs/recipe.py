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
from e2vpt.prompting.parts import tuned_parameters
from e2vpt.pruning.applying import num_kept, visual_kept
from e2vpt.pruning.picture import picture
from e2vpt.pruning.rewinding import Snapshot, rewind, snapshot
from e2vpt.pruning.selection import Selection, select
from e2vpt.runs.augmenting import asks, augmented, borne, switching
from e2vpt.runs.folders.folder import ADAPTER, PRUNE_FOLDER, UNPRUNED
from e2vpt.runs.folders.run_config import RunConfig
from e2vpt.runs.folders.tried import Tried, write_table
from e2vpt.runs.prepare import Prepared, training_images, with_new_model
from e2vpt.runs.reporting import Reporting
from e2vpt.runs.run import Trained, opened_run, save_run_adapter, train_into
from e2vpt.runs.scoring import pairs_to_try, prunable, scores_of
from e2vpt.training.evaluate import evaluate
from e2vpt.training.fit import FitResult
from e2vpt.training.processes import as_the_first, process_rank
from e2vpt.training.schedule import EpochRange


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """A finished run with pruning.

    Attributes:
        trained: as of `train_run`; its result is that of the training whose adapter was kept.
        tried: the table of prunings.
    """

    trained: Trained
    tried: list[Tried]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Trial:
    """A pruning of the trained prompts."""

    row: Tried
    selection: Selection


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Finalist:
    """A pruning trained again: where, with which figures, and what the model was then."""

    row: Tried
    selection: Selection
    folder: Path
    result: FitResult
    state: Snapshot


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
    before, after = _parts(prune, prepared.config.train.epochs)
    reporting.stage(f"Training with all prompts{_of_schedule(prune, before, prepared)}")
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
    size, epochs = _size(out / UNPRUNED), len(first.history)
    unpruned = _tried(prepared, "unpruned", (1.0, 1.0), size=size, epochs=epochs)
    trials: list[_Trial] = []
    for pair in pairs:
        selection = select(scores, tokens=pair[0], segments=pair[1], key_value=prune.keep_kv)
        if not any(_same(selection, trial.selection) for trial in trials):
            trials.append(_on_trial(prepared, trained, selection, pair, out))
    trials.sort(key=lambda trial: trial.row.loss)
    start = _start(prepared, prune, origin, trained)
    if asks(prepared):
        rewind(prepared.model, trained)
        prepared = augmented(prepared, borne(prepared, out, reporting.stage).augment)
    rows = [unpruned, *(trial.row for trial in trials)]
    finalists = []
    for number, trial in enumerate(trials[:again], 1):
        reporting.stage(_said_of(trial.row, prune, after, prepared))
        later = reporting.before(min(again, len(trials)) - number)
        finalists.append(_retrained(prepared, start, trial, after, out, later))
        rows.append(finalists[-1].row)
        if process_rank()[0] == 0:
            write_table(out / PRUNE_FOLDER / "table.csv", rows)
    best = max(finalists, key=lambda finalist: (finalist.row.accuracy, -finalist.row.loss))
    is_pruned = prepared.val is None or best.row.accuracy >= unpruned.accuracy - prune.tolerance
    chosen, result = (best.row, best.result) if is_pruned else (unpruned, first)
    rewind(prepared.model, best.state if is_pruned else trained)
    rows = [dataclasses.replace(row, chosen=row is chosen) for row in rows]
    if process_rank()[0] == 0:
        write_table(out / PRUNE_FOLDER / "table.csv", rows)
        write_atomic(out / PRUNE_FOLDER / "kept.svg", picture(best.selection, best.row.kept).encode())
        source = best.folder / ADAPTER if is_pruned else out / UNPRUNED
        copy_atomic(source, out / ADAPTER)
    model = prepared.model.eval()
    done = Trained(model=model, preprocessing=prepared.preprocessing, adapter=out / ADAPTER, result=result)
    return Pruned(trained=done, tried=rows)


def _parts(prune: PruneConfig, epochs: int) -> tuple[EpochRange, EpochRange]:
    """The epochs before pruning and after it: parts of one schedule, or a whole one each."""
    first = prune.first_epochs(epochs)
    before = EpochRange(first=0, end=first)
    return before, (EpochRange(first=first, end=epochs) if prune.prunes_within else before)


def _said_of(row: Tried, prune: PruneConfig, part: EpochRange, prepared: Prepared) -> str:
    """What is trained after pruning."""
    begun = "Going on" if prune.prunes_within else "Training again"
    shares = f"{row.tokens:.0%} of tokens, {row.segments:.0%} of segments"
    return f"{begun} with {shares}{_of_schedule(prune, part, prepared)}"


def _of_schedule(prune: PruneConfig, part: EpochRange, prepared: Prepared) -> str:
    """Which epochs of its schedule a training has, where that is not all of them."""
    if not prune.prunes_within:
        return ""
    return f", epochs {part.first + 1} to {part.end} of {prepared.config.train.epochs}"


def _start(prepared: Prepared, prune: PruneConfig, origin: Snapshot, trained: Snapshot) -> Snapshot:
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


def _on_trial(
    prepared: Prepared, trained: Snapshot, selection: Selection, pair: tuple[float, float], out: Path
) -> _Trial:
    rewind(prepared.model, trained, selection)
    path = out / PRUNE_FOLDER / "trial.safetensors"
    size = save_run_adapter(prepared, path, {})
    path.unlink(missing_ok=True)
    return _Trial(row=_tried(prepared, "trial", pair, size=size, epochs=0), selection=selection)


def _same(a: Selection, b: Selection) -> bool:
    """Whether two selections keep the same; other shares may come to that."""
    pairs = zip((*a.segments, *a.key_value), (*b.segments, *b.key_value), strict=True)
    return all(one.equal(other) for one, other in pairs)


def _retrained(
    prepared: Prepared, start: Snapshot, trial: _Trial, part: EpochRange, out: Path, reporting: Reporting
) -> _Finalist:
    pair = (trial.row.tokens, trial.row.segments)
    folder = out / PRUNE_FOLDER / "{:.3f}-{:.3f}".format(*pair)
    rewind(prepared.model, start, trial.selection)
    training = "{:.0%} of tokens, {:.0%} of segments".format(*pair)
    result = train_into(prepared, folder, resume=True, training=training, part=part, reporting=reporting)
    return _Finalist(
        row=_tried(prepared, "retrained", pair, size=_size(folder / ADAPTER), epochs=len(result.history)),
        selection=trial.selection,
        folder=folder,
        result=result,
        state=snapshot(prepared.model),
    )


def _tried(prepared: Prepared, stage: str, pair: tuple[float, float], *, size: int, epochs: int) -> Tried:
    """A row of the table for the model as it is now."""
    images = (training_images(prepared) if prepared.val is None else prepared.val).in_order()
    metrics, beside = as_the_first(evaluate(prepared.model, images)), tuned_parameters(prepared.model)
    return Tried(
        stage=stage,
        tokens=pair[0],
        segments=pair[1],
        kept=visual_kept(prepared.model),
        num_tuned=num_kept(prepared.model) + sum(p.numel() for p in beside.values()),
        bytes=size,
        epochs=epochs,
        accuracy=metrics.accuracy,
        loss=metrics.loss,
    )


def _digest(path: Path) -> str:
    """Of a file that only the first process writes."""
    return as_the_first(hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "")


def _size(path: Path) -> int:
    """Bytes of a file that only the first process writes."""
    return path.stat().st_size if path.exists() else 0
