"""What a search tries and what it finds, the same for both engines.

trials.csv    one row per finished trial, best first
trial-<name>/ the run folder of each
adapter.safetensors  that of the best
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from e2vpt.config import PruneConfig, SearchConfig
from e2vpt.config.fields import as_tuple, to_dict
from e2vpt.data import Task
from e2vpt.errors import ConfigError, Diverged, RunError
from e2vpt.files.atomic import write_atomic, write_csv
from e2vpt.runs.folder import ADAPTER, PRUNE_FOLDER, RunConfig, hold_images, open_folder, read_log
from e2vpt.runs.identity import image_rows
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


class EngineTrial(Protocol):
    """What `suggest` asks of an engine's trial; Optuna's has it."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number of the range."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""


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


def suggest(trial: EngineTrial, search: SearchConfig) -> Suggestion:
    """The next point of the search space."""
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
    on_epoch: Callable[[int, float], None] | None = None,
    on_step: Callable[[StepReport], None] | None = None,
) -> TrialResult:
    """Train one trial in a folder, or go on with it; `on_epoch` hears the number and validation accuracy of
    every epoch, also of those from before an interruption, and may raise `Stop`."""
    seen: list[Row] = []

    def after_epoch(row: Row) -> None:
        seen.append(row)
        if on_epoch is not None:
            on_epoch(len(seen) - 1, row["val_accuracy"])

    config = configured(base, tried)
    try:
        for row in trial_log(folder):
            after_epoch(row)
        accuracy, loss = _train(task, config, prune, tried["keep"], folder, like, after_epoch, on_step)
    except Stop:
        last = seen[-1]
        state, accuracy, loss = "stopped", last["val_accuracy"], last["val_loss"]
    except Diverged:
        state, accuracy, loss = "diverged", 0.0, math.inf
    else:
        state = "complete"
    name = folder.name.removeprefix("trial-")
    return TrialResult(name=name, state=state, accuracy=accuracy, loss=loss, epochs=len(seen), **tried)


def trial_log(folder: Path) -> list[Row]:
    """The rows of all epochs that a trial has finished so far, in order."""
    trainings = [folder, *sorted((folder / PRUNE_FOLDER).glob("*-*"))]
    return [row for training in trainings for row in read_log(training)]


def check_searchable(task: Task, config: RunConfig) -> None:
    """Hold a task and its settings to what a search needs.

    Raises:
        ConfigError: there are no validation images to search by.
        And what `check_backbone_fits` raises.
    """
    if task.val is None or config.data.train_on != "train":
        raise ConfigError(
            "A search compares validation accuracies; give it validation images, and train_on=train."
        )
    check_backbone_fits(config)


def open_search(
    out: Path, task: Task, config: RunConfig, search: SearchConfig, prune: PruneConfig, *, resume: bool
) -> None:
    """Create a search's folder, or check that the search in it is the one to be resumed.

    Raises:
        RunError: it holds another search, or cannot be written.
    """
    # More trials may be asked for later.
    space = {name: value for name, value in to_dict(search).items() if name != "trials"}
    asked = {"search": space, "prune": to_dict(prune), "task": task.name, "classes": list(task.classes)}
    open_folder(out, config.to_dict() | asked, resume=resume)
    hold_images(out, image_rows(task))


def ranked(results: Sequence[TrialResult]) -> list[TrialResult]:
    """Best first: complete ones by accuracy, then loss; then the stopped and the diverged ones."""
    return sorted(results, key=lambda r: (r.state != "complete", -r.accuracy, r.loss, r.name))


def leave_results(out: Path, results: Sequence[TrialResult]) -> None:
    """Write the table, and the best trial's adapter as the search's."""
    columns = [field.name for field in dataclasses.fields(TrialResult)]
    write_csv(out / TABLE, [dataclasses.asdict(result) for result in ranked(results)], columns)
    best = next(iter(ranked(results)), None)
    if best is not None and best.state == "complete":
        write_atomic(out / ADAPTER, (out / f"trial-{best.name}" / ADAPTER).read_bytes())


def best_of(results: Sequence[TrialResult], out: Path) -> TrialResult:
    """The best complete trial.

    Raises:
        RunError: none is complete.
    """
    best = next(iter(ranked(results)), None)
    if best is None:
        raise RunError(f"No trial of {out} came to an end; what went wrong is in {out / 'ray'}/*/error.txt.")
    if best.state != "complete":
        raise RunError(f"No trial of {out} is complete: all diverged. Lower --lr-range.")
    return best


def _train(
    task: Task,
    config: RunConfig,
    prune: PruneConfig,
    keep: float,
    folder: Path,
    like: Prepared | None,
    on_epoch: Callable[[Row], None],
    on_step: Callable[[StepReport], None] | None,
) -> tuple[float, float]:
    """Validation accuracy and loss of the adapter that the run ends with."""
    if keep >= 1 or not config.prompts.num_visual:
        done = train_run(task, config, folder, resume=True, like=like, on_step=on_step, on_epoch=on_epoch)
        best = done.result.history[done.result.best_epoch]
        return best["val_accuracy"], best["val_loss"]
    asked = dataclasses.replace(prune, keep=keep, finalists=1, tolerance=1.0)
    reporting = Reporting(on_step=on_step, on_epoch=on_epoch)
    pruned = train_and_prune(task, config, asked, folder, resume=True, like=like, reporting=reporting)
    return pruned.tried[-1].accuracy, pruned.tried[-1].loss
