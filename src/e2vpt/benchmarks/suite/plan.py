"""What a benchmark costs before it is run: trainings, hours and bytes, from trainings timed here and now."""

from __future__ import annotations

import dataclasses
import io
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from e2vpt.benchmarks.compare.entries import ComparedMethod, config_of
from e2vpt.benchmarks.fgvc.read import FGVC, published_sizes
from e2vpt.benchmarks.suite.cell import Protocol, entry_of
from e2vpt.benchmarks.suite.tasks import Benchmark, Suite, load_suite_task
from e2vpt.benchmarks.vtab.tasks import TRAIN_IMAGES, VAL_IMAGES, VTAB
from e2vpt.config import DataConfig
from e2vpt.config.fields import as_tuple
from e2vpt.data.images import ImageInMemory, ImageSource
from e2vpt.data.task import Split, Task
from e2vpt.runs.folder import RunConfig
from e2vpt.runs.prepare import eval_loader
from e2vpt.runs.progress import duration
from e2vpt.runs.recipe import pairs_to_try
from e2vpt.runs.run import Trained, train_run
from e2vpt.training.evaluate import evaluate

_LONG = 3.0
"""Seconds of a training that tell more than chance: with 1 s a cell was 135 to 205 s, now 174 to 189 s."""
_MOST = 32
"""Batches of it at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedTask:
    """A task by its numbers of classes and images."""

    name: str
    classes: int
    train: int
    val: int
    test: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Speeds:
    """What a method takes on this machine, in seconds.

    Attributes:
        step, forward, decode: for an image: trained on, evaluated, read and preprocessed.
        epoch: for an epoch beside its images.
        start: for a training beside its epochs.
        bytes: of its adapter.
        prunings: how many are looked at, where the method prunes.
    """

    step: float
    forward: float
    decode: float
    epoch: float
    start: float
    bytes: int
    prunings: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """The cost of a method over all tasks: trainings, seconds on one device, bytes left on disk."""

    method: str
    trainings: int
    seconds: float
    bytes: int


def published_tasks(kind: Benchmark) -> list[PlannedTask]:
    """The benchmark by its published sizes, for a plan before any image is there."""
    if kind == "fgvc":
        return [PlannedTask(name=name, **published_sizes(name)) for name in FGVC]
    return [
        PlannedTask(
            name=task.name,
            classes=task.num_classes,
            train=TRAIN_IMAGES,
            val=VAL_IMAGES,
            test=task.test_images,
        )
        for task in VTAB.values()
    ]


def suite_tasks(suite: Suite, config: DataConfig) -> tuple[list[PlannedTask], list[ImageSource]]:
    """The benchmark as it lies there, and some of its images to time decoding on."""
    planned: list[PlannedTask] = []
    images: list[ImageSource] = []
    for name in suite.tasks:
        task = load_suite_task(suite, name, config)
        sizes = {which: len(split) for which, split in task.splits().items()}
        planned.append(PlannedTask(name=name, classes=len(task.classes), **sizes))
        images += task.train.images[:8]
    return planned, images


def made_up_images() -> list[ImageSource]:
    """A JPEG file of 500 by 375 pixels, about what the benchmarks' photographs take to decode."""
    noise = torch.randint(0, 256, (47, 63, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    file = io.BytesIO()
    Image.fromarray(noise.numpy()).resize((500, 375)).save(file, "JPEG")
    return [_Bytes(name="noise.jpg", content=file.getvalue())]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Bytes:
    """An image file in memory, decoded whenever it is opened."""

    name: str
    content: bytes

    def open(self) -> Image.Image:
        """See `ImageSource.open`."""
        return ImageInMemory(name=self.name, pixels=Image.open(io.BytesIO(self.content))).open()


def plan(
    tasks: Sequence[PlannedTask], protocol: Protocol, methods: Sequence[str], images: Sequence[ImageSource]
) -> list[Planned]:
    """Every method's cost on one device, after a few short trainings of each."""
    found = []
    for method in methods:
        entry = entry_of(protocol, method)
        classes = round(statistics.mean(task.classes for task in tasks))
        speeds = measure(entry, protocol, images, classes)
        costs = [_cell(task, entry, protocol, speeds) for task in tasks]
        found.append(
            Planned(
                method=method,
                trainings=sum(trainings for trainings, _ in costs),
                seconds=sum(seconds for _, seconds in costs),
                # What prunes keeps the unpruned adapter, the pruned one, and the chosen one.
                bytes=sum(trainings for trainings, _ in costs)
                * speeds.bytes
                * (3 if entry.prunes else 2)
                // 2,
            )
        )
    return found


def plan_markdown(found: Sequence[Planned]) -> list[str]:
    """A line for each method, and their sum."""
    total = Planned(
        method="all",
        trainings=sum(line.trainings for line in found),
        seconds=sum(line.seconds for line in found),
        bytes=sum(line.bytes for line in found),
    )
    lines = ["| method | trainings | hours on one device | on disk, MiB |", "|---|---:|---:|---:|"]
    for line in [*found, total]:
        hours, size = line.seconds / 3600, line.bytes / 2**20
        lines.append(f"| {line.method} | {line.trainings:,} | {hours:.2f} | {size:,.1f} |")
    return [*lines, "", f"In all {duration(total.seconds)} on one device like this one."]


def measure(entry: ComparedMethod, protocol: Protocol, images: Sequence[ImageSource], classes: int) -> Speeds:
    """Time short trainings of two lengths and two sizes; what they differ in says what an image, an epoch and
    a training cost."""
    config = config_of(protocol.config, entry, None, 0)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        count, one = _long_enough(config, images, classes, out)
        small, large = _task(images, count, classes), _task(images, 2 * count, classes)
        two, _ = _timed(small, config, 2, out / "two")
        more, trained = _timed(large, config, 2, out / "more")
        bytes_left = trained.adapter.stat().st_size
        began = time.perf_counter()
        loader = eval_loader(large.train, trained.preprocessing, config)
        batches = list(loader)
        decode = (time.perf_counter() - began) / len(large.train)
        began = time.perf_counter()
        evaluate(trained.model, batches)
        forward = (time.perf_counter() - began) / len(large.train)
    step = max(0.0, ((more - two) / count - decode) / 2)
    epoch = max(0.0, two - one - count * step)
    start = max(0.0, one - count * (decode + step) - epoch)
    prunings = len(pairs_to_try(protocol.prune, trained.model)) if entry.prunes else 0
    return Speeds(
        step=step,
        forward=forward,
        decode=decode,
        epoch=epoch,
        start=start,
        bytes=bytes_left,
        prunings=prunings,
    )


def _long_enough(
    config: RunConfig, images: Sequence[ImageSource], classes: int, out: Path
) -> tuple[int, float]:
    """Images, whole batches, with which an epoch takes long enough to be timed, and the seconds it took."""
    _timed(_task(images, config.train.batch_size, classes), config, 1, out / "warm")
    batches = 1
    while True:
        count = batches * config.train.batch_size
        seconds, _ = _timed(_task(images, count, classes), config, 1, out / f"long{batches}")
        if seconds >= _LONG or batches >= _MOST:
            return count, seconds
        batches *= 2


def _task(images: Sequence[ImageSource], count: int, classes: int) -> Task:
    split = Split(
        images=tuple(images[i % len(images)] for i in range(count)),
        labels=tuple(i % classes for i in range(count)),
    )
    names = tuple(map(str, range(classes)))
    return Task(name="plan", classes=names, train=split, complete=False)


def _timed(task: Task, config: RunConfig, epochs: int, out: Path) -> tuple[float, Trained]:
    own = dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=epochs))
    began = time.perf_counter()
    trained = train_run(task, own, out)
    return time.perf_counter() - began, trained


def _cell(task: PlannedTask, entry: ComparedMethod, protocol: Protocol, speeds: Speeds) -> tuple[int, float]:
    """Trainings and seconds of one task with one method."""
    epochs = protocol.config.train.epochs
    chosen = _training(task.train, task.val, epochs, speeds)
    final = _training(task.train + task.val, 0, epochs, speeds)
    test = task.test * (speeds.decode + speeds.forward)
    if protocol.name == "paper":
        grid = protocol.grid if entry.prunes else dataclasses.replace(protocol.grid, keep_ratios=())
        seeds = len(as_tuple(grid.final_seeds))
        before = grid.num_trainings() - seeds
        # Its trainings share the images they hold in memory; the best of the grid is scored.
        images = (task.train + task.val) * speeds.decode
        scoring = task.train * speeds.step if entry.prunes else 0.0
        seconds = images + before * (chosen - images) + scoring + seeds * (final + test)
        return grid.num_trainings(), seconds
    tried = len(entry.lrs) if len(entry.lrs) > 1 or entry.prunes else 0
    twice = 2 if entry.prunes else 1
    if entry.prunes:
        # The second training goes on with the model and the images of the first.
        images = task.train + task.val
        scoring = task.train * speeds.step
        looks = (speeds.prunings + 2) * task.val * speeds.forward
        chosen += chosen - speeds.start - images * speeds.decode + scoring + looks
        # Before, with the one chosen pruning, and after: without validation images, training images tell.
        looks = 3 * images * speeds.forward
        final += final - speeds.start - images * speeds.decode + images * speeds.step + looks
    return (tried + protocol.seeds) * twice, tried * chosen + protocol.seeds * (final + test)


def _training(train: int, val: int, epochs: int, speeds: Speeds) -> float:
    """Seconds of one training; images are decoded once."""
    images = train * speeds.step + val * speeds.forward
    return speeds.start + (train + val) * speeds.decode + epochs * (speeds.epoch + images)
