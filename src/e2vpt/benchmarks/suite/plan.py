"""What a benchmark costs before it is run: trainings, hours and bytes, from trainings timed here and now."""

from __future__ import annotations

import dataclasses
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
from e2vpt.benchmarks.suite.tasks import Benchmark
from e2vpt.benchmarks.tables import markdown_table
from e2vpt.benchmarks.vtab.tasks import TRAIN_IMAGES, VAL_IMAGES, VTAB
from e2vpt.config.fields import as_tuple
from e2vpt.data.decoding.images import ImageFile, ImageSource
from e2vpt.data.task import Split, Task
from e2vpt.runs.folders.run_config import RunConfig
from e2vpt.runs.prepare import eval_loader
from e2vpt.runs.progress import duration
from e2vpt.runs.run import Trained, train_run
from e2vpt.training.evaluate import evaluate

_LONG = 3.0
"""Seconds of a training that tell more than chance: with 1 s a cell was 135 to 205 s, now 174 to 189 s."""
_MOST = 32
"""Batches of it at most."""
_FOR_PRUNING = 2
"""Epochs that scores and looks at prunings take together, about."""


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
        start: for a run beside its images.
        bytes: of its adapter.
    """

    step: float
    forward: float
    decode: float
    start: float
    bytes: int

    def run(self, train: int, val: int, epochs: int) -> float:
        """A run, whose images are decoded once."""
        return self.start + (train + val) * self.decode + epochs * (train * self.step + val * self.forward)


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """The cost of a method over all tasks: trainings, seconds on one device, bytes left on disk."""

    method: str
    trainings: int
    seconds: float
    bytes: int


def published_tasks(kind: Benchmark) -> list[PlannedTask]:
    """The benchmark by its published sizes: a plan needs no image."""
    if kind == "fgvc":
        return [PlannedTask(name=name, classes=own.classes, **own.images) for name, own in DATA_SETS.items()]
    ours = {"train": TRAIN_IMAGES, "val": VAL_IMAGES}
    return [
        PlannedTask(name=task.name, classes=task.num_classes, test=task.test_images, **ours)
        for task in VTAB.values()
    ]


def plan(tasks: Sequence[PlannedTask], protocol: Protocol, method: str) -> Planned:
    """A method's cost on one device, after a few short trainings with a made-up photograph."""
    entry = entry_of(protocol, method)
    speeds = measure(entry, protocol, round(statistics.mean(task.classes for task in tasks)))
    trainings = len(tasks) * sum(runs * each for runs, each in _runs(entry, protocol))
    return Planned(
        method=method,
        trainings=trainings,
        seconds=sum(_seconds(task, entry, protocol, speeds) for task in tasks),
        # What prunes keeps the unpruned adapter, the pruned one, and the chosen one.
        bytes=trainings * speeds.bytes * (3 if entry.prunes else 2) // 2,
    )


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


def measure(entry: ComparedMethod, protocol: Protocol, classes: int) -> Speeds:
    """Time short trainings of one epoch and of two, in which they differ by a step for each image."""
    config = config_of(protocol.config, entry, None, 0)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        task, one = _long_enough(config, _photograph(out / "noise.jpg"), classes, out)
        two, trained = _timed(task, config, 2, out / "two")
        began = time.perf_counter()
        batches = list(eval_loader(task.train, trained.preprocessing, config))
        decoded = time.perf_counter()
        evaluate(trained.model, batches)
        evaluated = time.perf_counter()
        size = trained.adapter.stat().st_size
    count = len(task.train)
    step, decode = max(0.0, (two - one) / count), (decoded - began) / count
    return Speeds(
        step=step,
        forward=(evaluated - decoded) / count,
        decode=decode,
        start=max(0.0, one - count * (decode + step)),
        bytes=size,
    )


def _photograph(path: Path) -> ImageFile:
    """A JPEG file of 500 by 375 pixels, about what the benchmarks' photographs take to decode."""
    Image.effect_noise((63, 47), 80).convert("RGB").resize((500, 375)).save(path, "JPEG")
    return ImageFile(name=path.name, path=path)


def _long_enough(config: RunConfig, image: ImageSource, classes: int, out: Path) -> tuple[Task, float]:
    """Whole batches with which an epoch takes long enough to be timed, and the seconds it took."""
    size = config.train.batch_size
    _timed(_task(image, size, classes), config, 1, out / "warm")
    batches = 1
    while True:
        task = _task(image, batches * size, classes)
        seconds, _ = _timed(task, config, 1, out / f"long{batches}")
        if seconds >= _LONG or batches >= _MOST:
            return task, seconds
        batches *= 2


def _task(image: ImageSource, count: int, classes: int) -> Task:
    split = Split(images=(image,) * count, labels=tuple(i % classes for i in range(count)))
    return Task(name="plan", classes=tuple(map(str, range(classes))), train=split, complete=False)


def _timed(task: Task, config: RunConfig, epochs: int, out: Path) -> tuple[float, Trained]:
    own = dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=epochs, patience=0))
    began = time.perf_counter()
    trained = train_run(task, own, out)
    return time.perf_counter() - began, trained


def _runs(entry: ComparedMethod, protocol: Protocol) -> tuple[tuple[int, int], tuple[int, int]]:
    """Runs that choose settings, and final ones, each with the number of trainings in one of them."""
    if protocol.name == "paper":
        grid = grid_of(protocol, entry)
        seeds = len(as_tuple(grid.final_seeds))
        return (1, grid.num_trainings() - seeds), (seeds, 1)
    chooses_pruning = entry.prunes and protocol.final_on == "train+val"
    tried = len(entry.lrs) if len(entry.lrs) > 1 or chooses_pruning else 0
    each = 2 if entry.prunes else 1
    return (tried, each), (protocol.seeds, each)


def _seconds(task: PlannedTask, entry: ComparedMethod, protocol: Protocol, speeds: Speeds) -> float:
    """One task with one method, whose settings are chosen on validation images."""
    (tried, each), (seeds, each_final) = _runs(entry, protocol)
    epochs, more = protocol.config.train.epochs, _FOR_PRUNING if entry.prunes else 0
    choosing = speeds.run(task.train, task.val, each * epochs + more)
    train, val = (task.train + task.val, 0) if protocol.final_on == "train+val" else (task.train, task.val)
    final = speeds.run(train, val, each_final * epochs + (more if each_final > 1 else 0))
    return tried * choosing + seeds * (final + task.test * (speeds.decode + speeds.forward))
