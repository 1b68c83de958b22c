"""`e2vpt compare`: methods beside each other on the same tasks, every one tuned with the same effort.

1. tuning: every method's learning rates on some of the tasks, on validation images; one rate is chosen for
   all tasks, by mean accuracy, ties to the smaller.
2. final: every task, method and seed with that rate; test images are read once for each.

A finished training is a row in trials.jsonl and never done again; the running one resumes.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2vpt.benchmarks.compare.entries import ComparedMethod, config_of
from e2vpt.benchmarks.compare.trial import ComparisonRow, Trial, read_trials, run_trial
from e2vpt.config import PruneConfig
from e2vpt.config.fields import require, to_dict
from e2vpt.config.images import TrainOn
from e2vpt.data import Task
from e2vpt.errors import ConfigError, RunError
from e2vpt.files.atomic import check_rows, write_json_lines
from e2vpt.files.paths import look_at
from e2vpt.runs.folders.folder import CONFIG, PRUNE_FOLDER, TASKS, read_config
from e2vpt.runs.folders.held import opened_for_runs
from e2vpt.runs.folders.run_config import RunConfig
from e2vpt.runs.reporting import Reporting
from e2vpt.runs.start import check_backbone_fits

COMPARISON_TRIALS = "trials.jsonl"
FEWEST_EPOCHS = 10
"""What each of two trainings needs: with 6 + 6 epochs one of seven tasks stayed at 47 %, and had 87 % where
it was pruned late in one training of 12 (docs/diary.md)."""
LATE = 0.75
"""When methods prune in a comparison of fewer epochs, as a share of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What is compared.

    Attributes:
        tasks: by name, in the order of the table.
        config: what every training shares; method, rate and seed come from the entries.
        entries: by name, in the order of the table.
        tune_on: names of the tasks that learning rates are chosen on.
        seeds: of the final trainings: 0 to seeds - 1.
        final_on: train+val once everything is chosen, as VTAB-1k is measured; or the training images, with
            the best epoch by validation images. A method with nothing to choose then needs no tuning.
        equal_epochs: the epochs of the settings are those of all trainings of a run together, so that a
            method that prunes and trains again gets no more than its peers.
        late_where_few: with `equal_epochs`, prune within one training where two would have few epochs each.
    """

    tasks: Mapping[str, Task]
    config: RunConfig
    entries: Mapping[str, ComparedMethod]
    tune_on: Sequence[str]
    prune: PruneConfig = field(default_factory=PruneConfig)
    seeds: int = 3
    final_on: TrainOn = "train"
    equal_epochs: bool = False
    late_where_few: bool = True

    def __post_init__(self) -> None:
        unknown = sorted(set(self.tune_on) - set(self.tasks))
        if unknown or not self.tune_on:
            raise ConfigError(
                f"Rates are chosen on {', '.join(self.tune_on)}; the tasks are {', '.join(self.tasks)}."
            )
        require(
            self.config.data.train_on == "train",
            "train_on has no effect in a comparison: it chooses on validation images first. Leave it out.",
        )
        blind = [name for name, task in self.tasks.items() if task.val is None or task.test is None]
        if blind:
            raise ConfigError(f"{', '.join(blind)}: a comparison needs validation and test images.")

    @property
    def pruning(self) -> PruneConfig:
        """How methods prune: as asked, or within one training where two would have too few epochs."""
        epochs, asked = self.config.train.epochs, self.prune
        few = self.equal_epochs and 1 < epochs < FEWEST_EPOCHS * asked.trainings
        if not (few and self.late_where_few) or asked.prunes_within:
            return asked
        return dataclasses.replace(asked, prune_at=LATE, rewind="none")

    def pruning_of(self, name: str) -> PruneConfig:
        """How a method prunes: as the others, but for what its row has of its own."""
        return dataclasses.replace(self.pruning, **self.entries[name].pruning)

    def tuning(self, name: str) -> Iterator[Trial]:
        """What is tried to choose a method's rate, and its pruning where validation images are for that."""
        entry = self.entries[name]
        if len(entry.lrs) > 1 or (entry.prunes and self.final_on == "train+val"):
            for lr in entry.lrs:
                for task in self.tune_on:
                    yield Trial(stage="tuning", task=task, method=name, lr=lr)

    def final(self, name: str, lr: float) -> Iterator[Trial]:
        """A method's trainings with the rate that was chosen."""
        for task in self.tasks:
            for seed in range(self.seeds):
                yield Trial(stage="final", task=task, method=name, lr=lr, seed=seed)

    def num_trainings(self) -> int:
        """How many runs it takes; one that prunes trains twice."""
        trials = ([*self.tuning(name), *self.final(name, 0.0)] for name in self.entries)
        return sum(map(len, trials))


def compare_methods(
    comparison: Comparison, out: Path, *, resume: bool = False, reporting: Reporting | None = None
) -> list[ComparisonRow]:
    """Run what is missing of a comparison in a folder; returns all rows.

    Raises:
        RunError: the folder holds something else, or a comparison of other settings, weights or images.
        And what `check_backbone_fits` raises.
    """
    reporting = reporting or Reporting()
    late = comparison.pruning != comparison.prune
    names = [name for name, entry in comparison.entries.items() if entry.prunes and not entry.pruning]
    if late and names:
        epochs = comparison.config.train.epochs
        reporting.stage(f"{epochs} epochs are few for two trainings: pruning comes within one, at {LATE:.0%}")
    for entry in comparison.entries.values():
        check_backbone_fits(config_of(comparison.config, entry, entry.lrs[0], 0))
    tasks = {out / TASKS / name: task for name, task in comparison.tasks.items()}
    with opened_for_runs(out, comparison.config, _settings(comparison), tasks, resume=resume):
        rows = read_trials(out / COMPARISON_TRIALS)
        _check_rates(comparison, rows)
        _check_pruning(comparison, rows, out)
        for name in comparison.entries:
            for trial in comparison.tuning(name):
                _run(comparison, out, rows, trial, reporting)
        for name, entry in comparison.entries.items():
            tuned = any(comparison.tuning(name))
            for trial in comparison.final(name, chosen_lr(rows, name) if tuned else entry.lrs[0]):
                _run(comparison, out, rows, trial, reporting)
    return rows


def _check_rates(comparison: Comparison, rows: Sequence[ComparisonRow]) -> None:
    """Two rates of a method in one table would be averaged as if they were seeds."""
    used = {(row["method"], row["lr"]) for row in rows if row["stage"] == "final"}
    for name in comparison.entries:
        rates = sorted(lr for method, lr in used if method == name)
        now = _settled_lr(comparison, rows, name) if rates else None
        for rate in rates:
            if rate != now:
                lrs = ", ".join(f"{lr:g}" for lr in comparison.entries[name].lrs)
                words = f"{now:g}" if now is not None else f"it would be chosen from {lrs}"
                raise RunError(
                    f"{name} was compared with rate {rate:g}, now {words}. Give its rate as before "
                    f"(--rates {name}={rate:g}), or another --out."
                )


def _settled_lr(comparison: Comparison, rows: Sequence[ComparisonRow], name: str) -> float | None:
    """The rate of a method's final trainings; None where it is still to be chosen."""
    entry = comparison.entries[name]
    if len(entry.lrs) == 1:
        return entry.lrs[0]
    is_tuned = all(trial.found_in(rows) for trial in comparison.tuning(name))
    return chosen_lr(rows, name) if is_tuned else None


def _check_pruning(comparison: Comparison, rows: Sequence[ComparisonRow], out: Path) -> None:
    """Two ways to prune in one table would be averaged in the same way; trainings say theirs."""
    for row in rows:
        entry = comparison.entries.get(row["method"])
        path = out / Trial.of(row).folder / PRUNE_FOLDER / CONFIG
        if entry is None or not entry.prunes or look_at(path) == "nothing":
            continue
        # Of the shares, a final training has those that its tuning chose.
        saved, now = read_config(path), to_dict(comparison.pruning_of(row["method"]))
        names = [name for name in now if name in saved and name not in ("keep_tokens", "keep_segments")]
        changes = [f"{name} {saved[name]}, now {now[name]}" for name in names if saved[name] != now[name]]
        if changes:
            raise RunError(
                f"{row['method']} was compared with other pruning: {'; '.join(changes)} (see {path}). "
                "Prune as before, or choose another --out."
            )


def chosen_lr(rows: Sequence[ComparisonRow], method: str) -> float:
    """The rate with the best mean validation accuracy over the tasks it was tried on; ties to the smaller."""
    tried: dict[float, list[float]] = {}
    for row in rows:
        if row["stage"] == "tuning" and row["method"] == method:
            tried.setdefault(row["lr"], []).append(row["val_accuracy"])
    return min(tried, key=lambda lr: (-statistics.mean(tried[lr]), lr))


def _run(
    comparison: Comparison, out: Path, rows: list[ComparisonRow], trial: Trial, reporting: Reporting
) -> None:
    """One training, unless its row is there already."""
    if trial.found_in(rows):
        return
    done = sum(row["method"] in comparison.entries for row in rows)
    reporting.stage(f"Run {done + 1} of {comparison.num_trainings()}: {trial.folder}")
    entry = comparison.entries[trial.method]
    config = config_of(comparison.config, entry, trial.lr, trial.seed)
    if trial.stage == "final":
        data = dataclasses.replace(config.data, train_on=comparison.final_on)
        patience = config.train.patience if comparison.final_on == "train" else 0  # no images to go by
        train = dataclasses.replace(config.train, patience=patience)
        config = dataclasses.replace(config, data=data, train=train)
    prune = _pruning(comparison, rows, trial, out) if entry.prunes else None
    if prune is not None and comparison.equal_epochs:
        epochs = max(1, int(config.train.epochs / prune.trainings + 1e-9))
        config = dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=epochs))
    task = comparison.tasks[trial.task]
    rows.append(run_trial(trial, task, config, prune, out, reporting))
    write_json_lines(out / COMPARISON_TRIALS, rows)


def _pruning(
    comparison: Comparison, rows: Sequence[ComparisonRow], trial: Trial, out: Path
) -> PruneConfig | None:
    """What to prune: where the final training has no validation images, what they chose in the tuning before;
    None where they chose not to."""
    own = comparison.pruning_of(trial.method)
    if trial.stage == "tuning" or comparison.final_on == "train":
        return own
    task = trial.task if trial.task in comparison.tune_on else comparison.tune_on[0]
    tuned = dataclasses.replace(trial, stage="tuning", task=task, seed=0).found_in(rows)
    if tuned is None or tuned["diverged"]:
        return own
    check_rows(out / COMPARISON_TRIALS, [tuned], {"tokens": float, "segments": float})
    if tuned["tokens"] == tuned["segments"] == 1.0:
        return None
    return dataclasses.replace(own, keep_tokens=(tuned["tokens"],), keep_segments=(tuned["segments"],))


def _settings(comparison: Comparison) -> dict[str, Any]:
    """What must be the same to go on; entries, tasks and seeds may be added later."""
    shared = comparison.config.to_dict() | {"method": None, "source": None}
    shared["train"] |= {"lr": None, "seed": None}
    own = {"prune": to_dict(comparison.pruning), "tune_on": list(comparison.tune_on)}
    return shared | own | {"final_on": comparison.final_on, "equal_epochs": comparison.equal_epochs}
