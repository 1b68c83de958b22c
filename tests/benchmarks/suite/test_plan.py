"""A plan counts what a cell really does, and finds the speeds of a simulated machine."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch.nn.modules.module import register_module_forward_pre_hook

from e2vpt import PromptConfig, PruneConfig, RunConfig, TrainConfig
from e2vpt.benchmarks.compare.entries import ENTRIES
from e2vpt.benchmarks.suite import cell
from e2vpt.benchmarks.suite import plan as planning
from e2vpt.benchmarks.suite.cell import Protocol, entry_of, run_cell
from e2vpt.benchmarks.suite.plan import PlannedTask, Speeds, plan, plan_markdown, published_tasks
from e2vpt.benchmarks.suite.tasks import Suite
from e2vpt.config import GridConfig
from e2vpt.data.decoding.images import ImageInMemory
from e2vpt.data.task import Split, Task
from e2vpt.runs.reporting import Reporting

PROTOCOL = Protocol(
    name="fast",
    config=RunConfig(
        backbone="demo",
        # Prompts from chance: the images that others start from are looked at once more.
        prompts=PromptConfig(num_visual=4, num_kv=2, init="uniform"),
        train=TrainConfig(epochs=2, batch_size=6),
    ),
    prune=PruneConfig(num_segments=4, tolerance=1.0),  # a pruning is chosen, however poor
    seeds=2,
)
GRID = GridConfig(base_lrs=(0.1, 0.2), weight_decays=(0.0,), keep_ratios=(0.5, 1.0), final_seeds=(42, 44))
SPEEDS = Speeds(step=0.1, forward=0.03, decode=0.02, start=50.0, bytes=0)
"""Seconds on the simulated machine."""
DONE: Counter[str] = Counter()
"""What a test has done so far: images `decode`d, images through the model in a `step` or a `forward` pass
without gradients."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CountedImage(ImageInMemory):
    """An image that tells when it is decoded."""

    def open(self, as_stored: bool = False) -> Any:
        """See `ImageSource.open`."""
        DONE["decode"] += 1
        return ImageInMemory.open(self, as_stored)


def images(count: int) -> tuple[CountedImage, ...]:
    noise = np.random.default_rng(count).integers(0, 255, (count, 8, 8, 3), dtype=np.uint8)
    return tuple(CountedImage(name=f"{count}-{i}", pixels=pixels) for i, pixels in enumerate(noise))


def split(count: int) -> Split:
    return Split(images=images(count), labels=tuple(i % 3 for i in range(count)))


TASK = Task(name="dtd", classes=("a", "b", "c"), train=split(12), val=split(6), test=split(9))
PLANNED = PlannedTask(name="dtd", classes=3, train=12, val=6, test=9)
SUITE = Suite(kind="vtab", directory="", source="tfds", tasks={"dtd": "natural"})


@pytest.fixture(autouse=True)
def _counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    DONE.clear()

    def forward(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, VisionTransformer):
            DONE["step" if torch.is_grad_enabled() else "forward"] += len(inputs[0])

    monkeypatch.setattr(cell, "load_suite_task", lambda *_: TASK)
    hook = register_module_forward_pre_hook(forward)
    yield
    hook.remove()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A machine that takes SPEEDS for what it does; the sizes of the adapters trained on it, in bytes."""
    real, sizes = planning.train_run, []

    def seconds() -> float:
        return sum(getattr(SPEEDS, name) * count for name, count in DONE.items())

    def train_run(*args: Any, **options: Any) -> Any:
        DONE["start"] += 1
        trained = real(*args, **options)
        sizes.append(trained.adapter.stat().st_size)
        return trained

    monkeypatch.setattr(planning, "train_run", train_run)
    monkeypatch.setattr(planning, "_photograph", lambda _: images(1)[0])
    monkeypatch.setattr(planning, "time", SimpleNamespace(perf_counter=seconds))
    return sizes


@pytest.mark.parametrize(
    ("method", "changes", "trainings", "starts"),
    [
        ("bias", {}, 2, 2),  # a training for each seed
        ("bias", {"tune": True}, 5, 5),  # and three rates to choose from
        # To choose a pruning and for each seed two trainings; the second goes on with the first one's model.
        ("e2vpt", {}, 6, 3),
        ("e2vpt", {"final_on": "train"}, 4, 2),  # each seed's own validation images choose its pruning
        # Two rates, and four pairs of shares, in one run; two seeds.
        ("linear", {"name": "paper", "grid": GRID}, 4, 3),
        ("e2vpt-paper", {"name": "paper", "grid": GRID}, 8, 3),
        ("linear", {"name": "paper", "grid": GRID, "final_on": "train"}, 4, 3),
    ],
)
def test_a_plan_counts_what_a_cell_does(
    method: str,
    changes: dict[str, Any],
    trainings: int,
    starts: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    protocol = dataclasses.replace(PROTOCOL, **changes)
    entry = entry_of(protocol, method)
    # Memory is measured on one more batch, which a plan leaves out.
    monkeypatch.setattr("e2vpt.benchmarks.compare.trial._step_memory", lambda *_: 0.0)
    run_cell(SUITE, protocol, "dtd", method, tmp_path, Reporting())
    none = Speeds(step=0, forward=0, decode=0, start=0, bytes=0)
    planned = {
        name: planning._seconds(PLANNED, entry, protocol, dataclasses.replace(none, **{name: 1.0}))
        for name in ("step", "decode", "start", "forward")
    }
    assert sum(runs * each for runs, each in planning._runs(entry, protocol)) == trainings
    assert (planned["start"], planned["decode"]) == (starts, DONE["decode"])
    # What prunes is given two epochs more, for one of scores and the looks at prunings.
    pruned = 2 * 12 if protocol.final_on == "train" else 12 + 2 * 18  # images of two finals, or of three runs
    more = {"e2vpt": pruned, "e2vpt-paper": 12}.get(method, 0)
    assert planned["step"] == DONE["step"] + more
    # Without validation images, the last batch is looked at once more when all is over.
    assert 0 <= DONE["forward"] - planned["forward"] <= 2 * 6 + 4 * more


def test_the_paper_s_own_grid() -> None:
    """10 learning rates with 4 weight decays, 9 x 9 pairs of shares, 5 seeds."""
    protocol = dataclasses.replace(PROTOCOL, name="paper", grid=GridConfig())
    assert planning._runs(entry_of(protocol, "e2vpt-paper"), protocol) == ((1, 40 + 81), (5, 1))
    assert planning._runs(entry_of(protocol, "linear"), protocol) == ((1, 40), (5, 1))
    assert planning._runs(entry_of(protocol, "full"), protocol) == ((1, 16), (5, 1))


def test_a_machine_s_speeds_are_found(machine: list[int]) -> None:
    found = planning.measure(ENTRIES["e2vpt"], PROTOCOL, 3)
    for name in ("step", "forward", "decode"):
        assert getattr(found, name) == pytest.approx(getattr(SPEEDS, name)), name
    # The last batch is looked at once more when all is over.
    assert found.start == pytest.approx(SPEEDS.start + 6 * SPEEDS.forward)
    assert found.bytes == machine[-1]


def test_short_trainings_grow_until_they_can_be_timed(
    machine: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training of 6 images takes 50.9 s here, and 0.72 s more for each 6."""
    monkeypatch.setattr(planning, "_LONG", 52.0)
    planning.measure(ENTRIES["linear"], PROTOCOL, 3)
    # One to warm up; of 6, 12 and 24 images; of 24 for two epochs, which are looked at once more.
    assert DONE["step"] == 6 + 6 + 12 + 24 + 2 * 24
    assert DONE["decode"] == 6 + 6 + 12 + 24 + 24 + 24


def test_a_plan_from_published_sizes(machine: list[int]) -> None:
    tasks = published_tasks("vtab")
    dtd = PlannedTask(name="dtd", classes=47, train=800, val=200, test=1880)
    assert len(tasks) == 19 and dtd in tasks
    birds = published_tasks("fgvc")[1]
    assert birds == PlannedTask(name="nabirds", classes=555, train=21536, val=2393, test=24633)
    line = plan(tasks, PROTOCOL, "linear")
    assert line.trainings == 38 and line.bytes == 38 * machine[-1]
    # Two seeds of two epochs: 100.36 s to start, 400 s for 4,000 steps, 57.6 s to decode 1,000 training and
    # 1,880 test images, 112.8 s to evaluate the latter.
    alone = plan([dtd], PROTOCOL, "linear")
    assert alone.seconds == pytest.approx(100.36 + 400 + 2 * 57.6 + 112.8)
    short = dataclasses.replace(line, seconds=60.0)
    text = plan_markdown([short, dataclasses.replace(line, method="bias", trainings=3, seconds=3600.0)])
    assert text[2].startswith("| linear | 38 |") and text[3].startswith("| bias | 3 | 1.00 |")
    assert text[4].startswith("| all | 41 |") and text[-1].startswith("In all 1 h 01 min")
