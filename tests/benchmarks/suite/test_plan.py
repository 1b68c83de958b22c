"""A plan counts what the protocol really trains, and takes measured times apart as they were put together."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from e2vpt import PromptConfig, RunConfig, TrainConfig
from e2vpt.benchmarks.compare.entries import ENTRIES
from e2vpt.benchmarks.suite import plan as planning
from e2vpt.benchmarks.suite.cell import Protocol, entry_of
from e2vpt.benchmarks.suite.plan import (
    PlannedTask,
    Speeds,
    made_up_images,
    plan,
    plan_markdown,
    published_tasks,
)
from e2vpt.config import GridConfig

PROTOCOL = Protocol(
    name="fast",
    config=RunConfig(
        backbone="demo",
        prompts=PromptConfig(num_visual=4, num_kv=2),
        train=TrainConfig(epochs=10, batch_size=8),
    ),
    seeds=3,
)
TASK = PlannedTask(name="dtd", classes=47, train=800, val=200, test=1880)
SPEEDS = Speeds(step=0.01, forward=0.003, decode=0.002, epoch=0.1, start=5.0, bytes=1000, prunings=6)
CHOSEN = 5 + 1000 * 0.002 + 10 * (0.1 + 800 * 0.01 + 200 * 0.003)
FINAL = 5 + 1000 * 0.002 + 10 * (0.1 + 1000 * 0.01)
TEST = 1880 * (0.002 + 0.003)


def cost(method: str, **changes: Any) -> tuple[int, float]:
    protocol = dataclasses.replace(PROTOCOL, **changes)
    return planning._cell(TASK, entry_of(protocol, method), protocol, SPEEDS)


def test_fast_is_a_training_for_each_seed() -> None:
    assert cost("bias") == (3, pytest.approx(3 * (FINAL + TEST)))
    assert cost("bias", tune=True) == (6, pytest.approx(3 * CHOSEN + 3 * (FINAL + TEST)))


def test_pruning_trains_twice_and_chooses_once() -> None:
    # Model and images are there when the second training begins.
    second, final = CHOSEN - 5 - 2, FINAL - 5 - 2
    scored = second + 800 * 0.01 + 8 * 200 * 0.003
    expected = CHOSEN + scored + 3 * (FINAL + final + 1000 * 0.01 + TEST)
    assert cost("e2vpt") == (8, pytest.approx(expected))


def test_paper_is_its_grid() -> None:
    grid = GridConfig()
    trainings, seconds = cost("e2vpt-paper", name="paper", grid=grid)
    assert trainings == 126
    assert seconds == pytest.approx(2 + 121 * (CHOSEN - 2) + 5 * (FINAL + TEST))
    assert cost("linear", name="paper", grid=grid)[0] == 45


def test_times_are_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings that take exactly what the model of their cost says give its parts back."""

    def timed(task: Any, config: RunConfig, epochs: int, out: Path) -> tuple[float, Any]:
        _, trained = real(task, config, epochs, out)
        images = len(task.train)
        return 5.0 + images * decode[0] + epochs * (0.1 + images * 0.01), trained

    real, decode = planning._timed, [0.0]
    monkeypatch.setattr(planning, "_timed", timed)
    speeds = planning.measure(ENTRIES["e2vpt"], PROTOCOL, made_up_images(), 3)
    # Decoding is timed, but is no part of these trainings: each of two epochs seems as much shorter.
    assert speeds.step == pytest.approx(0.01 - speeds.decode / 2)
    assert speeds.epoch == pytest.approx(0.1 + 8 * speeds.decode / 2)
    assert speeds.start == pytest.approx(5.0 - 8 * speeds.decode)
    assert speeds.prunings == 3 and speeds.forward > 0 and speeds.decode > 0 and speeds.bytes > 1000


def test_a_plan_from_published_sizes() -> None:
    tasks = published_tasks("vtab")
    assert len(tasks) == 19 and TASK in tasks
    birds = published_tasks("fgvc")[1]
    assert birds == PlannedTask(name="nabirds", classes=555, train=21536, val=2393, test=24633)
    (line,) = plan(tasks, PROTOCOL, ["linear"], made_up_images())
    short = dataclasses.replace(line, seconds=60.0)
    assert line.trainings == 57 and line.seconds > 0 and line.bytes > 57 * 1000
    text = plan_markdown([short, dataclasses.replace(line, method="bias", trainings=3, seconds=3600.0)])
    assert text[2].startswith("| linear | 57 |") and text[3].startswith("| bias | 3 | 1.00 |")
    assert text[4].startswith("| all | 60 |") and text[-1].startswith("In all 1 h 01 min")
