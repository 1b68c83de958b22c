"""Where an epoch's time goes: compute is inside training, everything else is outside."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest
from support.tasks_for_tests import write_task
from torch.optim import AdamW

import e2vpt
from e2vpt import PromptConfig, RunConfig, TrainConfig
from e2vpt.benchmarks.speed.epoch import EpochTime, epoch_markdown, epoch_rows, measure_epochs

CONFIG = RunConfig(
    backbone="demo",
    prompts=PromptConfig(num_visual=2, num_kv=1),
    train=TrainConfig(epochs=3, batch_size=9, accumulation=2),
)


@pytest.fixture
def task(tmp_path: Path) -> e2vpt.Task:
    return e2vpt.load_task(write_task(tmp_path / "shapes"))


def test_each_epoch_is_divided(task: e2vpt.Task, tmp_path: Path) -> None:
    times = measure_epochs(task, CONFIG, tmp_path / "run")
    assert len(times) == 3
    for t in times:
        assert 0 < t.compute <= t.training and t.rest > 0 and 0 <= t.outside < 1
    # Nothing is left behind to slow the next training down.
    model = e2vpt.prompt(e2vpt.load_backbone("demo", num_classes=3), CONFIG.prompts)
    optimizer = AdamW([p for p in model.parameters() if p.requires_grad])
    optimizer.step()
    assert not model._forward_pre_hooks


def test_time_between_the_steps_is_outside(
    task: e2vpt.Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loader that idles longer than anything else takes makes most of an epoch outside."""
    from e2vpt.data.loaders import Loader

    real = Loader.__iter__

    def idle(loader: Loader) -> Any:
        for batch in real(loader):
            time.sleep(0.5)
            yield batch

    one = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, epochs=1, batch_size=30))
    monkeypatch.setattr(Loader, "__iter__", idle)
    (t,) = measure_epochs(task, one, tmp_path / "run")
    assert t.training - t.compute >= 0.5


def test_the_report() -> None:
    times = [EpochTime(training=2.0, compute=1.5, rest=0.25)]
    assert "| 1 | 2.000 | 1.500 | 25.0% | 0.250 |" in epoch_markdown(times, {"device": "x"})
    assert epoch_rows(times) == [{"epoch": 1, "training": 2.0, "compute": 1.5, "rest": 0.25, "outside": 0.25}]
