"""What a benchmark costs before it is run: trainings, hours and bytes, from trainings timed here and now."""

from __future__ import annotations

import dataclasses
import io
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from e2vpt.benchmarks.compare.entries import ComparedMethod, config_of
from e2vpt.benchmarks.fgvc.read import DATA_SETS
from e2vpt.benchmarks.suite.cell import Protocol, entry_of, grid_of
from e2vpt.benchmarks.suite.tasks import Benchmark, Suite, load_suite_task
from e2vpt.benchmarks.tables import markdown_table
from e2vpt.benchmarks.vtab.tasks import TRAIN_IMAGES, VAL_IMAGES, VTAB
from e2vpt.config import DataConfig
from e2vpt.config.fields import as_tuple
from e2vpt.data.images import ImageSource, decode
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

    def training(self, train: int, val: int, epochs: int) -> float:
        """One training, whose images are decoded once."""
        images = train * self.step + val * self.forward
        return self.start + (train + val) * self.decode + epochs * (self.epoch + images)


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """The cost of a method over all tasks: trainings, seconds on one device, bytes left on disk."""

    method: str
    trainings: int
    seconds: float
    bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Bytes:
    """An image file in memory, decoded whenever it is opened."""

    name: str
    content: bytes

    def open(self, as_stored: bool = False) -> Image.Image:
        """See `ImageSource.open`."""
        return decode(self.content, self.name, as_stored)


def published_tasks(kind: Benchmark) -> list[PlannedTask]:
    """The benchmark by its published sizes, for a plan before any image is there."""
    if kind == "fgvc":
        return [PlannedTask(name=name, classes=own.classes, **own.images) for name, own in DATA_SETS.items()]
    ours = {"train": TRAIN_IMAGES, "val": VAL_IMAGES}
    return [
        PlannedTask(name=task.name, classes=task.num_classes, test=task.test_images, **ours)
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
    file = io.BytesIO()
    Image.effect_noise((63, 47), 80).convert("RGB").resize((500, 375)).save(file, "JPEG")
    return [_Bytes(name="noise.jpg", content=file.getvalue())]


def plan(
    tasks: Sequence[PlannedTask], protocol: Protocol, methods: Sequence[str], images: Sequence[ImageSource]
) -> list[Planned]:
    """Every method's cost on one device, after a few short trainings of each."""
    classes, found = round(statistics.mean(task.classes for task in tasks)), []
    for method in methods:
        entry = entry_of(protocol, method)
        speeds = measure(entry, protocol, images, classes)
        costs = [_cell(task, entry, protocol, speeds) for task in tasks]
        trainings = sum(trainings for trainings, _ in costs)
        # What prunes keeps the unpruned adapter, the pruned one, and the chosen one.
        size = trainings * speeds.bytes * (3 if entry.prunes else 2) // 2
        seconds = sum(seconds for _, seconds in costs)
        found.append(Planned(method=method, trainings=trainings, seconds=seconds, bytes=size))
    return found


def plan_markdown(found: Sequence[Planned]) -> list[str]:
    """A line for each method, and their sum."""
    columns = [(line.trainings, line.seconds, line.bytes) for line in found]
    total = [sum(column) for column in zip(*columns, strict=True)]
    names = [*(line.method for line in found), "all"]
    rows = [
        [name, f"{trainings:,}", f"{seconds / 3600:.2f}", f"{size / 2**20:,.1f}"]
        for name, (trainings, seconds, size) in zip(names, [*columns, total], strict=True)
    ]
    table = markdown_table(["method", "trainings", "hours on one device", "on disk, MiB"], rows)
    return [*table, "", f"In all {duration(total[1])} on one device like this one."]


def measure(entry: ComparedMethod, protocol: Protocol, images: Sequence[ImageSource], classes: int) -> Speeds:
    """Time short trainings of two lengths and two sizes; what they differ in says what an image, an epoch and
    a training cost."""
    config = config_of(protocol.config, entry, None, 0)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        count, one = _long_enough(config, images, classes, out)
        large = _task(images, 2 * count, classes)
        two, _ = _timed(_task(images, count, classes), config, 2, out / "two")
        more, trained = _timed(large, config, 2, out / "more")
        size = trained.adapter.stat().st_size
        began = time.perf_counter()
        batches = list(eval_loader(large.train, trained.preprocessing, config))
        decoded = time.perf_counter()
        evaluate(trained.model, batches)
        forward = (time.perf_counter() - decoded) / len(large.train)
    reading = (decoded - began) / len(large.train)
    step = max(0.0, ((more - two) / count - reading) / 2)
    epoch = max(0.0, two - one - count * step)
    return Speeds(
        step=step,
        forward=forward,
        decode=reading,
        epoch=epoch,
        start=max(0.0, one - count * (reading + step) - epoch - config.train.batch_size * forward),
        bytes=size,
        prunings=len(pairs_to_try(protocol.prune, trained.model)) if entry.prunes else 0,
    )


def _long_enough(
    config: RunConfig, images: Sequence[ImageSource], classes: int, out: Path
) -> tuple[int, float]:
    """Images, whole batches, with which an epoch takes long enough to be timed, and the seconds it took."""
    size = config.train.batch_size
    _timed(_task(images, size, classes), config, 1, out / "warm")
    batches, seconds = 1, 0.0
    while True:
        seconds, _ = _timed(_task(images, batches * size, classes), config, 1, out / f"long{batches}")
        if seconds >= _LONG or batches >= _MOST:
            return batches * size, seconds
        batches *= 2


def _task(images: Sequence[ImageSource], count: int, classes: int) -> Task:
    split = Split(
        images=tuple(images[i % len(images)] for i in range(count)),
        labels=tuple(i % classes for i in range(count)),
    )
    return Task(name="plan", classes=tuple(map(str, range(classes))), train=split, complete=False)


def _timed(task: Task, config: RunConfig, epochs: int, out: Path) -> tuple[float, Trained]:
    own = dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=epochs))
    began = time.perf_counter()
    trained = train_run(task, own, out)
    return time.perf_counter() - began, trained


def _cell(task: PlannedTask, entry: ComparedMethod, protocol: Protocol, speeds: Speeds) -> tuple[int, float]:
    """Trainings and seconds of one task with one method."""
    epochs, both = protocol.config.train.epochs, task.train + task.val
    chosen, final = speeds.training(task.train, task.val, epochs), speeds.training(both, 0, epochs)
    # Without validation images, the last batch is looked at once more when all is over.
    final += both / math.ceil(both / protocol.config.train.batch_size) * speeds.forward
    test, decoded = task.test * (speeds.decode + speeds.forward), both * speeds.decode
    if protocol.name == "paper":
        grid = grid_of(protocol, entry)
        seeds = len(as_tuple(grid.final_seeds))
        # The trainings before the final ones share the images they hold in memory; the grid's best is scored.
        scoring = task.train * speeds.step if entry.prunes else 0.0
        before = decoded + (grid.num_trainings() - seeds) * (chosen - decoded) + scoring
        return grid.num_trainings(), before + seeds * (final + test)
    tried = len(entry.lrs) if len(entry.lrs) > 1 or entry.prunes else 0
    if entry.prunes:
        # The second training goes on with the model and the images of the first, after scores and looks.
        looks = (speeds.prunings + 2) * task.val * speeds.forward
        chosen += chosen - speeds.start - decoded + task.train * speeds.step + looks
        # Before, with the one chosen pruning, and after: without validation images, training images tell.
        looks = 3 * both * speeds.forward
        final += final - speeds.start - decoded + both * speeds.step + looks
    trainings = (tried + protocol.seeds) * (2 if entry.prunes else 1)
    return trainings, tried * chosen + protocol.seeds * (final + test)
