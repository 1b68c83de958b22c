"""Reading the tasks of VTAB-1k from TFDS data, image lists or Hugging Face data sets, never mixed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from e2vpt.benchmarks.vtab.hub import has_vtab_hub, read_vtab_hub
from e2vpt.benchmarks.vtab.image_lists import has_lists, list_folders, read_image_lists
from e2vpt.benchmarks.vtab.tasks import CLASS_NAMES, VTAB, Slices, VtabTask
from e2vpt.benchmarks.vtab.tfds import (
    BinaryImage,
    PreparedDataset,
    Record,
    class_count,
    class_names,
    find_prepared,
    open_prepared,
    read_slice,
)
from e2vpt.data.images import ImageSource
from e2vpt.data.task import Split, Task
from e2vpt.errors import DataError

Source = Literal["tfds", "image lists", "hugging face"]


@dataclass(frozen=True, kw_only=True, slots=True)
class VtabData:
    """A task's images and where they came from: scores of different sources do not belong in one table.

    `where` is a folder, or the address of a Hugging Face data set and the rows of its splits.
    """

    name: str
    source: Source
    where: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split

    def absent(self) -> tuple[str, ...]:
        """Classes without an image among the 800 to train on (the official draw does not see to it)."""
        present = set(self.train.labels)
        return tuple(name for label, name in enumerate(self.classes) if label not in present)

    def task(self) -> Task:
        """The same as a task; a class of `absent` stays one, and its test images count as errors."""
        return Task(
            name=self.name,
            classes=self.classes,
            train=self.train,
            val=self.val,
            test=self.test,
            complete=False,
        )


def load_vtab(
    directory: Path | str, name: str, *, source: Source | None = None, checksums: bool = True
) -> Task:
    """`read_vtab` as a task of 800 training and 200 validation images and the full test set.

    Raises:
        DataError: as for `read_vtab`.
        MissingExtra: as for `read_vtab`.
    """
    return read_vtab(directory, name, source=source, checksums=checksums).task()


def read_vtab(
    directory: Path | str, name: str, *, source: Source | None = None, checksums: bool = True
) -> VtabData:
    """A task of VTAB-1k from a TFDS data directory, a folder of image lists, or Hugging Face data sets.

    The last are named by a text that begins with `hf:` and holds `{task}`, see `read_vtab_hub`. `checksums`
    also holds every record that is read from TFDS data to its checksum (about 300 MB/s).

    Raises:
        DataError: no such task, no such data, both sources in one directory and none chosen by `source`,
            another one chosen than the text names, and whatever is wrong with the files.
        MissingExtra: `hf:` without the `datasets` package.
    """
    if name not in VTAB:
        raise DataError(f"{name!r} is no task of VTAB-1k. Expected one of {', '.join(VTAB)}.")
    hub = _is_hub(directory)
    if source is not None and hub != (source == "hugging face"):
        raise DataError(
            f"The source {source!r} was asked for, but {directory} is {'' if hub else 'not '}an address of "
            "Hugging Face data sets, which begin with hf:. Change the one or the other."
        )
    if hub:
        return _from_hub(VTAB[name], str(directory))
    return _from_folder(VTAB[name], Path(directory), source, checksums)


def vtab_sources(directory: Path | str, name: str) -> tuple[Source, ...]:
    """Where `directory` has a task of VTAB-1k from, at a glance: its files may still be broken.

    Data sets that are not on this machine count as being there.
    """
    if _is_hub(directory):
        return ("hugging face",) if has_vtab_hub(str(directory), VTAB[name]) else ()
    lists, prepared = _folders(VTAB[name], Path(directory))
    there: dict[Source, list[Path]] = {"tfds": prepared, "image lists": lists}
    return tuple(source for source, paths in there.items() if paths)


def _is_hub(directory: Path | str) -> bool:
    return isinstance(directory, str) and directory.startswith("hf:")


def _folders(task: VtabTask, directory: Path) -> tuple[list[Path], list[Path]]:
    """Folders that hold image lists of a task, and descriptions of TFDS data that do."""
    lists = [directory / folder for folder in list_folders(task.name) if has_lists(directory / folder)]
    return lists, sorted((directory / task.dataset / (task.config or "")).glob("*/dataset_info.json"))


def _from_hub(task: VtabTask, template: str) -> VtabData:
    found = read_vtab_hub(template, task)
    splits = found.train, found.val, found.test
    return _data(task, "hugging face", found.where, found.classes, splits)


def _from_folder(task: VtabTask, directory: Path, source: Source | None, checksums: bool) -> VtabData:
    name = task.name
    lists, prepared = _folders(task, directory)
    if source is None and bool(prepared) == bool(lists):
        above = directory / task.dataset / (task.config or "")
        found = f"both image lists ({lists[0]}) and" if lists else "neither image lists nor"
        remedy = "Choose one source, the same for every task." if lists else "Is it the right folder?"
        raise DataError(f"{directory} has {found} TFDS data ({above}) of {name}. {remedy}")
    if source == "image lists" or (source is None and lists):
        return _from_lists(task, (lists or [directory / list_folders(name)[0]])[0])
    return _from_tfds(task, directory, checksums)


def _from_lists(task: VtabTask, folder: Path) -> VtabData:
    listed = read_image_lists(folder, task.num_classes)
    numbers = tuple(map(str, range(task.num_classes)))
    splits = listed.train, listed.val, listed.test
    return _data(task, "image lists", str(folder), numbers, splits)


def _from_tfds(task: VtabTask, directory: Path, checksums: bool) -> VtabData:
    data = open_prepared(find_prepared(directory, task.dataset, task.config, task.versions))
    classes = _classes(task, data)
    try:
        slices = task.slices(data.counts())
    except KeyError as error:
        raise DataError(f"{data.folder} has no split {error}; {task.name} needs it.") from error
    _refuse_overlap(task, data, slices)
    splits = (_split(task, data, *part, checksums) for part in slices)
    return _data(task, "tfds", str(data.folder), classes, splits)


def _data(
    task: VtabTask, source: Source, where: str, classes: tuple[str, ...], splits: Iterable[Split]
) -> VtabData:
    train, val, test = splits
    return VtabData(
        name=task.name, source=source, where=where, classes=classes, train=train, val=val, test=test
    )


def _split(
    task: VtabTask, data: PreparedDataset, split: str, start: int, stop: int, checksums: bool
) -> Split:
    images: list[ImageSource] = []
    labels: list[int] = []
    for record in read_slice(data, split, start, stop, ("image", *task.keys), checksums=checksums):
        image = record.image("image")
        images.append(BinaryImage(file=image) if task.binary else image)
        labels.append(_label(task, record))
    return Split(images=tuple(images), labels=tuple(labels))


def _label(task: VtabTask, record: Record) -> int:
    try:
        if task.label is None:
            label = record.number(task.keys[0]) * task.num_classes // task.label_values
        else:
            label = task.label(record)
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{record.name}: no label of {task.name}: {error}. Is it the right data?") from error
    if not 0 <= label < task.num_classes:
        raise DataError(
            f"{record.name}: the label of {task.name} is {label}; expected 0 to {task.num_classes - 1}."
        )
    return label


def _classes(task: VtabTask, data: PreparedDataset) -> tuple[str, ...]:
    """Their names, once the data's own count of them is the official one."""
    names = None if task.label else class_names(data, task.keys[0])
    for found in (None if task.label else class_count(data, task.keys[0]), names and len(names)):
        if found not in (None, task.label_values):
            raise DataError(
                f"{data.folder}: {task.keys[0]} has {found} classes; expected {task.label_values}. "
                "Is it the official data?"
            )
    return CLASS_NAMES.get(task.name) or names or tuple(map(str, range(task.num_classes)))


def _refuse_overlap(task: VtabTask, data: PreparedDataset, slices: Slices) -> None:
    """Only data of another size than the official ones can overlap."""
    for number, (split, start, stop) in enumerate(slices):
        for other, first, last in slices[number + 1 :]:
            if split == other and start < last and first < stop:
                raise DataError(
                    f"{data.folder}: too few examples for {task.name}: {split}[{start}:{stop}] and "
                    f"{other}[{first}:{last}] overlap. Is it the official data?"
                )
