"""One training of a comparison, and the row of figures it becomes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn import functional as F

from e2vpt.adapters.files import read_adapter
from e2vpt.benchmarks.cost import peak_memory
from e2vpt.config import PruneConfig
from e2vpt.data import Task
from e2vpt.data.loaders import Loader
from e2vpt.errors import Diverged
from e2vpt.files.atomic import check_rows, read_json_lines
from e2vpt.files.paths import look_at
from e2vpt.prompting.folding import folded
from e2vpt.prompting.parts import evaluating
from e2vpt.runs.folders.folder import CONFIG
from e2vpt.runs.folders.run_config import RunConfig
from e2vpt.runs.prepare import eval_loader
from e2vpt.runs.recipe import train_and_prune
from e2vpt.runs.reporting import Reporting
from e2vpt.runs.run import Trained, train_run
from e2vpt.training.epochs import AUTOCAST
from e2vpt.training.evaluate import evaluate

ComparisonRow = dict[str, Any]
"""One finished training: stage, task, method, lr, seed, val_accuracy (None without validation images),
diverged; where it pruned: the shares tokens and segments that were kept; where final: accuracy, num_tuned,
num_head, adapter_bytes, seconds (of training; None where it was interrupted and gone on with),
images_per_second (of inference, decoding included), peak_mib (of a step)."""
_WHICH = ("stage", "task", "method", "lr", "seed")
_ALWAYS: Mapping[str, type] = {
    **dict.fromkeys(("stage", "task", "method"), str),
    "lr": float,
    "seed": int,
    "diverged": bool,
}
_FINAL: Mapping[str, type] = {
    **dict.fromkeys(("num_tuned", "num_head", "adapter_bytes"), int),
    **dict.fromkeys(("accuracy", "images_per_second", "peak_mib"), float),
}


def read_trials(path: Path) -> list[ComparisonRow]:
    """The finished trainings of a comparison.

    Raises:
        RunError: the file cannot be read, or a row lacks a figure.
    """
    rows = read_json_lines(path, _ALWAYS)
    check_rows(path, [row for row in rows if row["stage"] == "tuning"], {"val_accuracy": float})
    final = [row for row in rows if row["stage"] == "final" and not row["diverged"]]
    check_rows(path, final, _FINAL)
    return rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """Which training: "tuning" looks at validation images only, "final" reads the test images once."""

    stage: Literal["tuning", "final"]
    task: str
    method: str
    lr: float
    seed: int = 0

    @classmethod
    def of(cls, row: ComparisonRow) -> Trial:
        """The one that a row is of."""
        return cls(**{name: row[name] for name in _WHICH})

    @property
    def folder(self) -> str:
        """Below the comparison's."""
        last = f"lr{self.lr:g}" if self.stage == "tuning" else f"seed{self.seed}"
        return f"{self.stage}/{self.method}/{self.task}-{last}"

    def row(self) -> ComparisonRow:
        """What says which it is."""
        return {name: getattr(self, name) for name in _WHICH}

    def found_in(self, rows: Sequence[ComparisonRow]) -> ComparisonRow | None:
        """Its row, if it is finished."""
        own = self.row().items()
        return next((row for row in rows if own <= row.items()), None)


def run_trial(
    trial: Trial,
    task: Task,
    config: RunConfig,
    prune: PruneConfig | None,
    out: Path,
    reporting: Reporting,
) -> ComparisonRow:
    """Train in the trial's folder below `out`, going on with what is there; with `prune`, prune too."""
    folder, began = out / trial.folder, time.perf_counter()
    is_whole = look_at(folder / CONFIG) == "nothing"
    row = trial.row()
    try:
        if prune is None:
            trained = train_run(task, config, folder, resume=True, reporting=reporting.bars())
        else:
            pruned = train_and_prune(task, config, prune, folder, resume=True, reporting=reporting.bars())
            trained = pruned.trained
            kept = next(tried for tried in pruned.tried if tried.chosen)
            row |= {"tokens": kept.tokens, "segments": kept.segments}
    except Diverged:
        return row | {"val_accuracy": 0.0, "diverged": True}
    best = trained.result.best
    row |= {"val_accuracy": best.get("val_accuracy"), "diverged": False}
    seconds = time.perf_counter() - began if is_whole else None
    return row if trial.stage == "tuning" else row | _on_test_images(task, trained, config, seconds)


def _on_test_images(task: Task, trained: Trained, config: RunConfig, seconds: float | None) -> ComparisonRow:
    assert task.test is not None
    loader = eval_loader(task.test, trained.preprocessing, config)
    began = time.perf_counter()
    with evaluating(trained.model), folded(trained.model):
        accuracy = evaluate(trained.model, loader).accuracy
    took = time.perf_counter() - began
    info = read_adapter(trained.adapter)
    return {
        "accuracy": accuracy,
        "num_tuned": info.num_tuned,
        "num_head": info.num_head,
        "adapter_bytes": info.bytes,
        "seconds": seconds,
        "images_per_second": len(task.test) / took,
        "peak_mib": _step_memory(trained, loader, config) / 2**20,
    }


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
