"""`e2vpt compare`: methods beside each other on the same tasks, every one tuned with the same effort.

1. tuning: every method's learning rates on some of the tasks, on validation images; one rate is chosen for
   all tasks, by mean accuracy, ties to the smaller.
2. final: every task, method and seed with that rate; test images are read once for each.

A finished training is a row in trials.jsonl and never done again; the running one resumes. What prunes begins
with the training of its twin that does not, where both are compared.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from e2vpt.adapter import read_adapter
from e2vpt.bench.cost import peak_memory
from e2vpt.config_search import PruneConfig
from e2vpt.data import Task
from e2vpt.data.loaders import Loader
from e2vpt.errors import ConfigError, Diverged
from e2vpt.evaluate import evaluate
from e2vpt.fields import to_dict
from e2vpt.paper import PUBLISHED_START as PUBLISHED
from e2vpt.peft_methods import PEFT_METHODS
from e2vpt.recipe import Reporting, train_and_prune
from e2vpt.run import Trained, eval_loader, train_run
from e2vpt.run_folder import ADAPTER, CHECKPOINT, CONFIG, RunConfig, open_folder
from e2vpt.storage import make_folder, read_json_lines, write_atomic, write_json_lines
from e2vpt.train import AUTOCAST

Row = dict[str, Any]
"""One finished training: stage ("tuning" or "final"), task, method, lr, seed, val_accuracy, diverged;
where final: accuracy, num_tuned, num_head, adapter_bytes, seconds (of training),
images_per_second (of inference), peak_mib (of a step)."""

TRIALS = "trials.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedMethod:
    """A row of the comparison.

    Attributes:
        method: of `methods.METHODS`.
        lrs: the learning rates that are tried.
        prompts, options: what differs from the settings of the comparison.
        prunes: prune, rewind and train again (methods with visual prompts).
    """

    method: str
    lrs: Sequence[float]
    prompts: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    prunes: bool = False


_PROMPT_LRS = (2e-3, 5e-3, 1e-2)
_OUR_LRS = (5e-3, 1e-2, 2e-2)
_LRS = (1e-2, 2e-2, 4e-2)
_PLAIN: Mapping[str, Any] = {"beside": "none"}
ENTRIES: Mapping[str, ComparedMethod] = {
    "linear": ComparedMethod(method="linear", lrs=(1e-3, 2e-3, 5e-3)),
    "full": ComparedMethod(method="full", lrs=(1e-4, 3e-4, 1e-3)),
    "partial-1": ComparedMethod(method="partial", lrs=(3e-4, 1e-3, 3e-3)),
    "mlp-3": ComparedMethod(method="mlp", lrs=(1e-3, 3e-3, 1e-2)),
    "sidetune": ComparedMethod(method="sidetune", lrs=(2e-3, 5e-3, 1e-2)),
    "bias": ComparedMethod(method="bias", lrs=_LRS),
    "layernorm": ComparedMethod(method="layernorm", lrs=_LRS),
    "adapter": ComparedMethod(method="adapter", lrs=(3e-3, 1e-2, 3e-2)),
    **{method: ComparedMethod(method=method, lrs=(3e-3, 1e-2, 3e-2)) for method in PEFT_METHODS},
    # The paper's own rows: initial values as published, prompts and head tuned, nothing beside them.
    "vpt-shallow": ComparedMethod(method="vpt-shallow", lrs=_PROMPT_LRS, prompts=PUBLISHED),
    "vpt-deep": ComparedMethod(method="vpt-deep", lrs=_PROMPT_LRS, prompts=PUBLISHED),
    "vpt-deep+prune": ComparedMethod(method="vpt-deep", lrs=_PROMPT_LRS, prompts=PUBLISHED, prunes=True),
    "kv": ComparedMethod(method="kv", lrs=_LRS, prompts=PUBLISHED),
    "e2vpt-paper-no-prune": ComparedMethod(
        method="e2vpt", lrs=_PROMPT_LRS, prompts=PUBLISHED, options=_PLAIN
    ),
    "e2vpt-paper": ComparedMethod(
        method="e2vpt", lrs=_PROMPT_LRS, prompts=PUBLISHED, options=_PLAIN, prunes=True
    ),
    # Ours, and ours without one of its parts.
    "e2vpt-no-prune": ComparedMethod(method="e2vpt", lrs=_OUR_LRS),
    "e2vpt": ComparedMethod(method="e2vpt", lrs=_OUR_LRS, prunes=True),
    "e2vpt-no-bias": ComparedMethod(method="e2vpt", lrs=_OUR_LRS, options=_PLAIN),
    "e2vpt-no-patch-init": ComparedMethod(method="e2vpt", lrs=_OUR_LRS, prompts=PUBLISHED),
    "e2vpt-no-kv": ComparedMethod(method="e2vpt", lrs=_OUR_LRS, prompts={"num_kv": 0}),
    "e2vpt-no-visual": ComparedMethod(method="e2vpt", lrs=_OUR_LRS, prompts={"num_visual": 0}),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What is compared.

    Attributes:
        tasks: by name, in the order of the table.
        config: what every training shares; method, rate and seed come from the entries.
        entries: by name, in the order of the table.
        tune_on: names of the tasks that learning rates are chosen on.
        seeds: of the final trainings: 0 to seeds - 1.
    """

    tasks: Mapping[str, Task]
    config: RunConfig
    entries: Mapping[str, ComparedMethod]
    tune_on: Sequence[str]
    prune: PruneConfig = field(default_factory=PruneConfig)
    seeds: int = 3

    def __post_init__(self) -> None:
        unknown = sorted(set(self.tune_on) - set(self.tasks))
        if unknown or not self.tune_on:
            raise ConfigError(
                f"Rates are chosen on {', '.join(self.tune_on)}; the tasks are {', '.join(self.tasks)}."
            )
        blind = [name for name, task in self.tasks.items() if task.val is None or task.test is None]
        if blind:
            raise ConfigError(f"{', '.join(blind)}: a comparison needs validation and test images.")

    def num_trainings(self) -> int:
        """How many runs it takes; one that prunes trains twice."""
        tuning = sum(len(entry.lrs) for entry in self.entries.values()) * len(self.tune_on)
        return tuning + len(self.entries) * len(self.tasks) * self.seeds


def compare_methods(
    comparison: Comparison, out: Path, *, resume: bool = False, reporting: Reporting | None = None
) -> list[Row]:
    """Run what is missing of a comparison in a folder; returns all rows.

    Raises:
        RunError: the folder holds something else, or a comparison with other settings.
    """
    reporting = reporting or Reporting()
    open_folder(out, _settings(comparison), resume=resume)
    rows = read_json_lines(out / TRIALS)
    for name, entry in comparison.entries.items():
        for lr in entry.lrs:
            for task in comparison.tune_on:
                asked = {"stage": "tuning", "task": task, "method": name, "lr": lr, "seed": 0}
                _run(comparison, out, rows, asked, reporting)
    for name in comparison.entries:
        lr = chosen_lr(rows, name)
        for task in comparison.tasks:
            for seed in range(comparison.seeds):
                asked = {"stage": "final", "task": task, "method": name, "lr": lr, "seed": seed}
                _run(comparison, out, rows, asked, reporting)
    return rows


def chosen_lr(rows: Sequence[Row], method: str) -> float:
    """The rate with the best mean validation accuracy over the tasks it was tried on; ties to the smaller."""
    tried: dict[float, list[float]] = {}
    for row in rows:
        if row["stage"] == "tuning" and row["method"] == method:
            tried.setdefault(row["lr"], []).append(row["val_accuracy"])
    return min(tried, key=lambda lr: (-statistics.mean(tried[lr]), lr))


def _run(comparison: Comparison, out: Path, rows: list[Row], asked: Row, reporting: Reporting) -> None:
    """One training, unless its row is there already."""
    if any(all(row[key] == value for key, value in asked.items()) for row in rows):
        return
    own = sum(row["method"] in comparison.entries for row in rows)
    reporting.stage(f"Run {own + 1} of {comparison.num_trainings()}: {_name(asked)}")
    entry, task = comparison.entries[asked["method"]], comparison.tasks[asked["task"]]
    config, folder = run_config(comparison, entry, asked), out / _name(asked)
    before = 0.0
    began = time.perf_counter()
    try:
        if entry.prunes:
            before = _take_over_first(comparison, out, rows, asked)
            pruned = train_and_prune(
                task, config, comparison.prune, folder, resume=True, reporting=_quiet(reporting)
            )
            trained = pruned.trained
        else:
            trained = train_run(task, config, folder, resume=True, on_step=reporting.on_step)
    except Diverged:
        rows.append({**asked, "val_accuracy": 0.0, "diverged": True})
    else:
        seconds = before + time.perf_counter() - began
        best = trained.result.history[trained.result.best_epoch]
        row = {**asked, "val_accuracy": best["val_accuracy"], "diverged": False}
        if asked["stage"] == "final":
            assert task.test is not None
            loader = eval_loader(task.test, trained.preprocessing, config)
            began = time.perf_counter()
            accuracy = evaluate(trained.model, loader).accuracy
            info = read_adapter(trained.adapter)
            row |= {
                "accuracy": accuracy,
                "num_tuned": info.num_tuned,
                "num_head": info.num_head,
                "adapter_bytes": info.bytes,
                "seconds": seconds,
                "images_per_second": len(task.test) / (time.perf_counter() - began),
                "peak_mib": _step_memory(trained, loader, config) / 2**20,
            }
        rows.append(row)
    write_json_lines(out / TRIALS, rows)


def _take_over_first(comparison: Comparison, out: Path, rows: Sequence[Row], asked: Row) -> float:
    """Begin a run that prunes with the finished training of the entry that does not; returns its seconds.

    Same settings and seed: it is the first of the two trainings, to the bit.
    """
    entry, folder = comparison.entries[asked["method"]], out / _name(asked)
    twins = [
        name
        for name, other in comparison.entries.items()
        if not other.prunes and dataclasses.replace(other, prunes=True, lrs=entry.lrs) == entry
    ]
    for row in rows:
        if row["method"] in twins and all(row[key] == asked[key] for key in asked if key != "method"):
            first = out / _name(row)
            if folder.exists() or not (first / CHECKPOINT).exists():
                continue
            make_folder(folder)
            # The config comes first: a folder with one is a run that can be gone on with.
            for name in (CONFIG, *sorted({path.name for path in first.iterdir()} - {CONFIG, ADAPTER})):
                write_atomic(folder / name, (first / name).read_bytes())
            return float(row.get("seconds", 0.0))
    return 0.0


def _step_memory(trained: Trained, loader: Loader, config: RunConfig) -> int:
    """Most bytes that forward and backward of one batch hold at a time."""
    images, labels = next(iter(loader))
    model, autocast = trained.model, AUTOCAST[config.train.precision]
    device = next(model.parameters()).device

    def step() -> None:
        with torch.autocast(device.type, autocast, enabled=autocast is not None):
            logits = model(images.to(device))
        F.cross_entropy(logits.float(), labels.to(device)).backward()  # type: ignore[no-untyped-call]

    peak = peak_memory(step, device.type)
    model.zero_grad(set_to_none=True)
    return peak


def run_config(comparison: Comparison, entry: ComparedMethod, asked: Row) -> RunConfig:
    """The settings of one training."""
    config = comparison.config
    return dataclasses.replace(
        config,
        method=entry.method,
        prompts=dataclasses.replace(config.prompts, **entry.prompts),
        options=dataclasses.replace(config.options, **entry.options),
        train=dataclasses.replace(config.train, lr=asked["lr"], seed=asked["seed"]),
    )


def _quiet(reporting: Reporting) -> Reporting:
    """Bars only: a line for each stage of each training would bury what matters."""
    return Reporting(on_step=reporting.on_step)


def _name(asked: Row) -> str:
    """The folder of a training, below the comparison's."""
    last = f"lr{asked['lr']:g}" if asked["stage"] == "tuning" else f"seed{asked['seed']}"
    return f"{asked['stage']}/{asked['method']}/{asked['task']}-{last}"


def _settings(comparison: Comparison) -> dict[str, Any]:
    """What must be the same to go on; entries, tasks and seeds may be added later."""
    shared = comparison.config.to_dict() | {"method": None, "source": None}
    shared["train"] |= {"lr": None, "seed": None}
    return shared | {"prune": to_dict(comparison.prune), "tune_on": list(comparison.tune_on)}
