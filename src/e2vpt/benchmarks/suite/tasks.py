"""The paper's benchmarks, VTAB-1k and FGVC: which of their tasks a directory holds, and from what source.

Numbers of different sources do not belong in one table: JPEG copies cost CIFAR-100 about ten points.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from e2vpt.benchmarks.fgvc.places import find_fgvc
from e2vpt.benchmarks.fgvc.read import FGVC, load_fgvc
from e2vpt.benchmarks.vtab.data import Source
from e2vpt.benchmarks.vtab.read import read_vtab, vtab_notes, vtab_sources
from e2vpt.benchmarks.vtab.tasks import VTAB
from e2vpt.config import DataConfig
from e2vpt.config.images import TrainOn
from e2vpt.data.task import Task
from e2vpt.errors import DataError, visible

Benchmark = Literal["vtab", "fgvc"]
FINAL_ON: Mapping[Benchmark, TrainOn] = {"vtab": "train+val", "fgvc": "train"}
"""What final trainings have once settings are chosen: VTAB-1k's own protocol is all 1000 images; published
numbers of FGVC are of the training images alone (KMnP/vpt: train.py, `get_loaders`)."""
ARCHIVES = "archives"


@dataclass(frozen=True, kw_only=True, slots=True)
class Suite:
    """A benchmark as far as a directory holds it.

    Attributes:
        kind, directory: which, and where.
        source: where all images come from.
        tasks: those that are there, with their groups, in the order of the papers' tables.
    """

    kind: Benchmark
    directory: str
    source: str
    tasks: Mapping[str, str]

    def whole(self) -> list[str]:
        """Every task of the benchmark, those that are not there included."""
        return list(FGVC if self.kind == "fgvc" else VTAB)

    def groups(self) -> dict[str, list[str]]:
        """The groups of the whole benchmark and their tasks; FGVC has none."""
        if self.kind == "fgvc":
            return {}
        groups: dict[str, list[str]] = {}
        for task in VTAB.values():
            groups.setdefault(task.group, []).append(task.name)
        return groups


def open_suite(
    kind: Benchmark, directory: str, names: Sequence[str] = (), source: Source | None = None
) -> Suite:
    """What a directory holds of a benchmark; with `names`, these and no others.

    Raises:
        DataError: none of the tasks, not all that were named, or tasks from different sources.
    """
    found = _found(kind, directory, source)
    missing = [name for name in names if name not in found]
    if missing or not found:
        there = ", ".join(found) or "nothing"
        wanted = ", ".join(missing) or ("a data set of FGVC" if kind == "fgvc" else "a task of VTAB-1k")
        raise DataError(
            f"{visible(directory)} does not hold {wanted}; found {there}. docs/benchmarks.md says how to lay "
            "it out."
        )
    by_source: dict[str, list[str]] = {}
    for name in (name for name in found if not names or name in names):
        by_source.setdefault(found[name], []).append(name)
    if len(by_source) > 1:
        lists = "; ".join(f"{where}: {', '.join(by_source[where])}" for where in sorted(by_source))
        raise DataError(
            f"{visible(directory)} mixes sources, whose numbers do not belong in one table ({lists}). "
            "Choose one with --source, or the tasks with --tasks."
        )
    ((where, chosen),) = by_source.items()
    tasks = {name: "fgvc" if kind == "fgvc" else VTAB[name].group for name in chosen}
    return Suite(kind=kind, directory=directory, source=where, tasks=tasks)


def load_suite_task(suite: Suite, name: str, config: DataConfig) -> Task:
    """One task of the benchmark.

    Raises:
        DataError: its files are broken.
    """
    if suite.kind == "fgvc":
        return load_fgvc(find_fgvc(suite.directory)[name], name, config)  # type: ignore[index, arg-type]
    return read_vtab(suite.directory, name, source=suite.source).task  # type: ignore[arg-type]


def suite_notes(suite: Suite) -> list[str]:
    """What is worth knowing before hours are spent, of tasks whose images may not be the published ones."""
    notes: list[str] = []
    for name in suite.tasks if suite.source == "tfds" else ():
        with contextlib.suppress(DataError):  # Its own cell will name what is broken.
            notes += [f"{name}: {note}" for note in vtab_notes(suite.directory, name)]
    return notes


def _found(kind: Benchmark, directory: str, source: Source | None) -> dict[str, str]:
    """The tasks that are there, and the source of each."""
    if kind == "fgvc":
        return dict.fromkeys(find_fgvc(directory), ARCHIVES)
    found: dict[str, str] = {}
    for name in VTAB:
        sources = [own for own in vtab_sources(directory, name) if source in (None, own)]
        if len(sources) > 1:
            raise DataError(
                f"{visible(directory)} has {name} from {' and '.join(sources)}. Choose one with "
                "--source, the same for every task."
            )
        if sources:
            found[name] = sources[0]
    return found
