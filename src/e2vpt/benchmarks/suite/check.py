"""Is a directory the published benchmark? Found out before hours are spent on it.

Counts, classes and checksums come from reading the data, formats and sizes from the headers of at most 1000
images of each split, evenly spaced: of VTAB-1k all that are trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from e2vpt.benchmarks.fgvc.places import FOLDERS, find_fgvc
from e2vpt.benchmarks.fgvc.read import FGVC, FgvcName, check_fgvc
from e2vpt.benchmarks.suite.headers import (
    Header,
    formats_of,
    one_encoder,
    read_headers,
    unlike_official,
    unreadable,
)
from e2vpt.benchmarks.suite.tasks import ARCHIVES
from e2vpt.benchmarks.tables import markdown_table
from e2vpt.benchmarks.vtab.image_lists import list_folders
from e2vpt.benchmarks.vtab.read import read_vtab
from e2vpt.benchmarks.vtab.tasks import TRAIN_IMAGES, VAL_IMAGES, VTAB, VtabTask
from e2vpt.data.task import Split
from e2vpt.errors import DataError, visible
from e2vpt.files.paths import look_at

Verdict = Literal["ok", "differs", "broken", "missing"]
OnTask = Callable[[str], None]
_RECOMPRESSED = (
    "The official ones are JPEG already; most lists that go around hold them compressed once more, with "
    "quality 75 (NOAH's get_vtab1k.py). Prepare them with TFDS for numbers to compare."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """What a task's data are.

    Attributes:
        name, group: which; natural, specialized, structured, or fgvc.
        state: as published; differs in what `problems` says; cannot be trained on; not there.
        source: "tfds", "image lists" or "archives"; "" where nothing was read.
        counts: images in train, val and test; empty where nothing was read.
        num_classes: 0 where nothing was read.
        formats: "PNG", "JPEG", "JPEG and PNG", ... of the images that were looked at.
        problems: a sentence or two each: what was found, what was expected, what to do.
        notes: what is worth knowing and no problem.
    """

    name: str
    group: str
    state: Verdict
    source: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    num_classes: int = 0
    formats: str = ""
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """All tasks of a benchmark in one place, and problems that no task has alone."""

    tasks: tuple[Checked, ...]
    problems: tuple[str, ...] = ()

    @property
    def right(self) -> bool:
        """Whether every task is there and as published."""
        return not self.problems and all(task.state == "ok" for task in self.tasks)


def check_vtab(directory: Path | str, names: Sequence[str] = (), *, on_task: OnTask | None = None) -> Check:
    """The tasks of VTAB-1k, all 19 or those of `names`, in a directory as `read_vtab` takes it.

    Every record of TFDS data is held to its checksum. `on_task` is given each task's name before it is read.

    Raises:
        DataError: the folder holds data of none of the tasks.
        MissingExtra: as for `read_vtab`.
    """
    where = Path(directory).expanduser()
    wanted = [task for task in VTAB.values() if not names or task.name in names]
    if not any(_is_there(where, task) for task in wanted):
        places = "; ".join(f"{task.name} in {' or '.join(_places(task))}" for task in wanted)
        raise DataError(f"{visible(str(where))} holds no task of VTAB-1k. Looked for {places}.")
    tasks = [_check_vtab_task(where, task, on_task) for task in wanted]
    return Check(tasks=tuple(tasks), problems=_mixed(tasks))


def check_fgvc_sets(
    directory: Path | str, names: Sequence[str] = (), *, on_task: OnTask | None = None
) -> Check:
    """The fine-grained data sets, all five or those of `names`, in the folders that `find_fgvc` finds.

    `on_task` is given each data set's name before it is read.

    Raises:
        DataError: as for `find_fgvc`.
    """
    found = find_fgvc(directory)
    wanted = [name for name in FGVC if not names or name in names]
    return Check(tasks=tuple(_check_fgvc_set(name, found.get(name), on_task) for name in wanted))


def check_markdown(check: Check) -> list[str]:
    """A table with a line for each task, then what is wrong and what is worth knowing."""
    head = ["task", "source", "train", "val", "test", "classes", "format", "verdict"]
    rows = []
    for task in check.tasks:
        counts = (f"{task.counts[split]:,}" if task.counts else "" for split in head[2:5])
        rows.append([task.name, task.source, *counts, str(task.num_classes or ""), task.formats, task.state])
    out = markdown_table(head, rows, texts=len(head))
    below = [*check.problems]
    below += [f"{task.name}: {problem}" for task in check.tasks for problem in task.problems]
    below += [f"{task.name}, note: {note}" for task in check.tasks for note in task.notes]
    return [*out, "", *("* " + line.replace("\n", "\n  ") for line in below)] if below else out


def _places(task: VtabTask) -> tuple[str, ...]:
    """The folders that can hold a task's data: TFDS's and those of lists."""
    return tuple(dict.fromkeys((task.folder, *list_folders(task.name))))


def _is_there(where: Path, task: VtabTask) -> bool:
    return any(look_at(where / place, DataError) == "folder" for place in _places(task))


def _check_vtab_task(where: Path, task: VtabTask, on_task: OnTask | None) -> Checked:
    if on_task is not None:
        on_task(task.name)
    checked = Checked(name=task.name, group=task.group, state="missing")
    if not _is_there(where, task):
        places = " or ".join(visible(str(where / place)) for place in _places(task))
        return replace(checked, problems=(f"no data; expected in {places}. Prepare or copy it there.",))
    try:
        data = read_vtab(where, task.name)
    except DataError as error:
        return replace(checked, state="broken", problems=(str(error),))
    splits = data.task.splits()
    headers = read_headers(splits)
    problems = [*_other_counts(splits, task), *unlike_official(task.name, headers)]
    notes = list(data.notes)
    if absent := task.num_classes - len(set(data.task.train.labels)):
        notes.append(f"{absent} of {task.num_classes} classes have no training image, as the draw came out.")
    if (found := one_encoder(task.name, headers)) and data.source == "image lists":
        problems.append(f"{found}. {_RECOMPRESSED}")
    elif found:
        notes.append(f"{found}. Whether they were compressed before, files do not tell.")
    checked = replace(checked, source=data.source, num_classes=len(data.task.classes), notes=tuple(notes))
    return _with_images(checked, splits, headers, problems)


def _check_fgvc_set(name: FgvcName, folder: Path | None, on_task: OnTask | None) -> Checked:
    if on_task is not None:
        on_task(name)
    checked = Checked(name=name, group="fgvc", state="missing")
    if folder is None:
        names = " or ".join(dict.fromkeys((name, *FOLDERS[name])))
        return replace(checked, problems=(f"no data; expected a folder {names}. Unpack it there.",))
    try:
        task, problems = check_fgvc(folder, name)
    except DataError as error:
        return replace(checked, state="broken", problems=(str(error),))
    checked = replace(checked, source=ARCHIVES, num_classes=len(task.classes))
    return _with_images(checked, task.splits(), read_headers(task.splits()), problems)


def _with_images(
    checked: Checked, splits: Mapping[str, Split], headers: Sequence[Header], problems: Sequence[str]
) -> Checked:
    """The verdict on data that could be read."""
    bad = unreadable(headers)
    return replace(
        checked,
        state="broken" if bad else "differs" if problems else "ok",
        counts={which: len(split) for which, split in splits.items()},
        formats=formats_of(headers),
        problems=(*bad, *problems),
    )


def _mixed(tasks: Sequence[Checked]) -> tuple[str, ...]:
    of: dict[str, list[str]] = {}
    for task in tasks:
        of.setdefault(task.source, []).append(task.name)
    found = "; ".join(f"{source}: {', '.join(names)}" for source, names in of.items() if source)
    if len(of.keys() - {""}) < 2:
        return ()
    return (
        f"The tasks come from several sources ({found}). Take one for all, or their scores do not compare.",
    )


def _other_counts(splits: Mapping[str, Split], task: VtabTask) -> Iterator[str]:
    """Lists do not say how many classes there are; all the official ones have images."""
    for which, images in {"train": TRAIN_IMAGES, "val": VAL_IMAGES, "test": task.test_images}.items():
        if len(splits[which]) != images:
            found = f"{which} has {len(splits[which]):,} images; published are {images:,}."
            yield f"{found} Is it the official data, and all of it?"
    unused = task.num_classes - len({label for split in splits.values() for label in split.labels})
    if unused:
        yield f"{unused} of {task.num_classes} classes have no image in any split. Is it the official data?"
