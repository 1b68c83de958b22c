"""What a search tries and what it finds, the same for both engines.

trials.csv    one row per finished trial, best first
trial-<name>/ the run folder of each
adapter.safetensors  that of the best
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2vpt.config import PruneConfig, SearchConfig
from e2vpt.config.fields import as_tuple, to_dict
from e2vpt.data import Task
from e2vpt.errors import ConfigError, Diverged, RunError, in_one_line
from e2vpt.files.atomic import copy_atomic, write_csv
from e2vpt.runs.folders.folder import ADAPTER, PRUNE_FOLDER, read_log
from e2vpt.runs.folders.held import opened_for_runs
from e2vpt.runs.folders.run_config import RunConfig
from e2vpt.runs.prepare import Prepared
from e2vpt.runs.recipe import train_and_prune
from e2vpt.runs.reporting import Reporting
from e2vpt.runs.run import train_run
from e2vpt.runs.start import check_backbone_fits
from e2vpt.training.checkpoint import Row
from e2vpt.training.step_report import StepReport

TABLE = "trials.csv"
Suggestion = Mapping[str, Any]
"""What a trial tries: lr, weight_decay, num_visual, num_kv, init, keep."""


class Stop(Exception):
    """Raised from a trial's epoch to end it: it is not worth going on with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialResult:
    """One finished trial.

    Attributes:
        name: its run folder is trial-<name>.
        state: "complete", "stopped" early, or "diverged".
        accuracy, loss: on the validation images, of what the run kept, or of the last epoch of a stopped one.
        epochs: epochs it trained.
        lr, weight_decay, num_visual, num_kv, init, keep: what it tried.
    """

    name: str
    state: str
    accuracy: float
    loss: float
    epochs: int
    lr: float
    weight_decay: float
    num_visual: int
    num_kv: int
    init: str
    keep: float


def suggest(trial: Any, search: SearchConfig) -> Suggestion:
    """The next point of the search space, from a trial of Optuna."""
    inits = ("uniform", "patch") if search.inits == "both" else (search.inits,)
    return {
        "lr": trial.suggest_float("lr", *search.lr_range, log=True),
        "weight_decay": trial.suggest_float("weight_decay", *search.weight_decay_range, log=True),
        "num_visual": trial.suggest_categorical("num_visual", as_tuple(search.visual_choices)),
        "num_kv": trial.suggest_categorical("num_kv", as_tuple(search.kv_choices)),
        "init": trial.suggest_categorical("init", inits),
        "keep": trial.suggest_categorical("keep", search.keep_choices),
    }


def configured(base: RunConfig, tried: Suggestion) -> RunConfig:
    """A run's settings with what a trial tries."""
    train = dataclasses.replace(base.train, lr=tried["lr"], weight_decay=tried["weight_decay"])
    prompts = dataclasses.replace(
        base.prompts, num_visual=tried["num_visual"], num_kv=tried["num_kv"], init=tried["init"]
    )
    return dataclasses.replace(base, train=train, prompts=prompts)


def try_suggestion(
    task: Task,
    base: RunConfig,
    prune: PruneConfig,
    tried: Suggestion,
    folder: Path,
    *,
    like: Prepared | None = None,
    on_epoch: Callable[[TrialResult], None] | None = None,
    on_step: Callable[[StepReport], None] | None = None,
) -> TrialResult:
    """Train one trial in a folder, or go on with it.

    `on_epoch` hears after every epoch, also of those from before an interruption, what the trial is if it
    ends there; it may raise `Stop`.
    """
    name = folder.name.removeprefix("trial-")
    so_far = TrialResult(name=name, state="stopped", accuracy=0.0, loss=math.inf, epochs=0, **tried)

    def after_epoch(row: Row) -> None:
        nonlocal so_far
        accuracy, loss = row["val_accuracy"], row["val_loss"]
        so_far = dataclasses.replace(so_far, accuracy=accuracy, loss=loss, epochs=so_far.epochs + 1)
        if on_epoch is not None:
            on_epoch(so_far)

    config, reporting = configured(base, tried), Reporting(on_step=on_step, on_epoch=after_epoch)
    try:
        for row in _finished_epochs(folder):
            after_epoch(row)
        accuracy, loss = _train(task, config, prune, tried["keep"], folder, like, reporting)
    except Stop:
        return so_far
    except Diverged:
        return dataclasses.replace(so_far, state="diverged", accuracy=0.0, loss=math.inf)
    return dataclasses.replace(so_far, state="complete", accuracy=accuracy, loss=loss)


def _finished_epochs(folder: Path) -> list[Row]:
    """The rows of all epochs that a trial has finished so far, in order."""
    trainings = [folder, *sorted((folder / PRUNE_FOLDER).glob("*-*"))]
    return [row for training in trainings for row in read_log(training)]


def _train(
    task: Task,
    config: RunConfig,
    prune: PruneConfig,
    keep: float,
    folder: Path,
    like: Prepared | None,
    reporting: Reporting,
) -> tuple[float, float]:
    """Validation accuracy and loss of the adapter that the run ends with."""
    if keep < 1 and config.prompts.num_visual:
        asked = dataclasses.replace(
            prune, keep=keep, keep_tokens=(), keep_segments=(), finalists=1, tolerance=1.0
        )
        pruned = train_and_prune(task, config, asked, folder, resume=True, like=like, reporting=reporting)
        return pruned.tried[-1].accuracy, pruned.tried[-1].loss
    done = train_run(task, config, folder, resume=True, like=like, reporting=reporting)
    best = done.result.best
    return best["val_accuracy"], best["val_loss"]


def opened_search(
    out: Path, task: Task, config: RunConfig, search: SearchConfig, prune: PruneConfig, *, resume: bool
) -> AbstractContextManager[None]:
    """A search's folder, as `opened_for_runs`.

    Raises:
        ConfigError: there are no validation images to search by.
        And what `check_backbone_fits` raises.
    """
    if task.val is None or config.data.train_on != "train":
        raise ConfigError(
            "A search compares validation accuracies; give it validation images, and train_on=train."
        )
    check_backbone_fits(config)
    # More trials may be asked for later.
    space = {name: value for name, value in to_dict(search).items() if name != "trials"}
    asked = {"search": space, "prune": to_dict(prune), "task": task.name, "classes": list(task.classes)}
    return opened_for_runs(out, config, config.to_dict() | asked, {out: task}, resume=resume)


def ranked(results: Sequence[TrialResult]) -> list[TrialResult]:
    """Best first: complete ones by accuracy, then loss; then the stopped and the diverged ones."""
    return sorted(results, key=lambda r: (r.state != "complete", -r.accuracy, r.loss, r.name))


def leave_results(out: Path, results: Sequence[TrialResult]) -> list[TrialResult]:
    """Write the table, and the best trial's adapter as the search's; returns them best first."""
    columns, best_first = [field.name for field in dataclasses.fields(TrialResult)], ranked(results)
    write_csv(out / TABLE, [dataclasses.asdict(result) for result in best_first], columns)
    if best_first and best_first[0].state == "complete":
        copy_atomic(out / f"trial-{best_first[0].name}" / ADAPTER, out / ADAPTER)
    return best_first


def finished_search(out: Path, results: Sequence[TrialResult]) -> list[TrialResult]:
    """What a search ends with: as `leave_results`.

    Raises:
        RunError: no trial is complete.
    """
    best_first = leave_results(out, results)
    if not best_first:
        raise RunError(f"No trial of {out} came to an end; what went wrong is in {out / 'ray'}/*/error.txt.")
    if best_first[0].state != "complete":
        raise RunError(f"No trial of {out} is complete: all diverged. Lower --lr-range.")
    return best_first


def damaged_record(path: Path, error: Exception) -> RunError:
    """An engine's own record of the trials that is damaged."""
    # The first cause is the database's own: "database or disk is full", "file is not a database".
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    why = in_one_line(error)
    return RunError(
        f"{path} cannot be read or written ({why}). Where the disk is full, free space and resume; "
        "where the file is damaged, restore it or search in another folder."
    )
