"""`e2vpt bench epoch`: what share of a training epoch is not forward, backward or optimizer step."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from e2vpt.benchmarks.machine import report_head
from e2vpt.data import Task
from e2vpt.runs.folder import RunConfig
from e2vpt.runs.prepare import prepare
from e2vpt.runs.run import train_into


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochTime:
    """One epoch.

    Attributes:
        training: seconds from its first batch to its last optimizer step.
        compute: seconds of that between the start of a forward pass and the end of its optimizer step.
        rest: seconds after it: validation, checkpoint, adapter, log.
    """

    training: float
    compute: float
    rest: float

    @property
    def outside(self) -> float:
        """Share of the training seconds that is not compute."""
        return 1 - self.compute / self.training


@dataclass(kw_only=True, slots=True)
class _Watch:
    """Seconds between the forward pass of a step and the end of the step."""

    began: float | None = None
    compute: float = 0.0
    steps: list[float] = field(default_factory=list)

    def on_forward(self, module: nn.Module, _: Any) -> None:
        if module.training and self.began is None:
            self.began = time.perf_counter()

    def on_step(self, *_: Any) -> None:
        now = time.perf_counter()
        assert self.began is not None
        self.compute += now - self.began
        self.began = None
        self.steps.append(now)


def measure_epochs(task: Task, config: RunConfig, out: Path) -> list[EpochTime]:
    """Train as `e2vpt train --no-prune` does, and say where each epoch's time went.

    On a GPU a step ends when its work is queued; the loop waits for it at every step, outside.
    """
    prepared = prepare(task, config)
    times: list[EpochTime] = []
    with _watching(prepared.model) as watch:
        began = time.perf_counter()

        def on_epoch(_: Any) -> None:
            nonlocal began
            now = time.perf_counter()
            last = watch.steps[-1]
            times.append(EpochTime(training=last - began, compute=watch.compute, rest=now - last))
            watch.compute, began = 0.0, now

        train_into(prepared, out, resume=False, on_epoch=on_epoch)
    return times


def epoch_markdown(times: list[EpochTime], machine: dict[str, str]) -> str:
    """The report."""
    text = report_head("Where an epoch's time goes", machine)
    text += ["", "| epoch | training, s | forward, backward, step, s | outside | after it, s |"]
    text += ["|---|---|---|---|---|"]
    text += [
        f"| {index} | {t.training:.3f} | {t.compute:.3f} | {t.outside:.1%} | {t.rest:.3f} |"
        for index, t in enumerate(times, 1)
    ]
    return "\n".join([*text, ""])


def epoch_rows(times: list[EpochTime]) -> list[dict[str, Any]]:
    """The figures, for a CSV."""
    return [
        {"epoch": index, **dataclasses.asdict(t), "outside": t.outside} for index, t in enumerate(times, 1)
    ]


@contextmanager
def _watching(model: nn.Module) -> Iterator[_Watch]:
    watch = _Watch()
    hooks = [
        model.register_forward_pre_hook(watch.on_forward),
        register_optimizer_step_post_hook(watch.on_step),
    ]
    try:
        yield watch
    finally:
        for hook in hooks:
            hook.remove()
