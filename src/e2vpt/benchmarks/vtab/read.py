"""Reading the tasks of VTAB-1k from TFDS data or image lists, never mixed."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from e2vpt.benchmarks.vtab.data import Source, VtabData
from e2vpt.benchmarks.vtab.image_lists import find_lists, has_lists, read_image_lists
from e2vpt.benchmarks.vtab.tasks import CLASS_NAMES, VTAB, VtabTask
from e2vpt.benchmarks.vtab.tfds import (
    BinaryImage,
    PreparedDataset,
    Record,
    class_names,
    open_prepared,
    prepared_versions,
    read_slice,
)
from e2vpt.data.decoding.images import ImageSource
from e2vpt.data.task import Split, Task
from e2vpt.errors import DataError, visible


def read_vtab(directory: Path | str, name: str, *, source: Source | None = None) -> VtabData:
    """A task of VTAB-1k from a TFDS data directory or a folder of image lists.

    Every record of TFDS data is held to its checksum.

    Raises:
        DataError: no such task, no such data, both sources in one directory and none chosen by `source`, and
            whatever is wrong with the files.
        MissingExtra: TFDS data without protobuf or google-crc32c.
    """
    if name not in VTAB:
        raise DataError(f"{name!r} is no task of VTAB-1k. Expected one of {', '.join(VTAB)}.")
    task, folder, there = VTAB[name], Path(directory), vtab_sources(directory, name)
    prepared, lists = folder / task.folder, find_lists(folder, name)
    if source is None and len(there) != 1:
        found = "both image lists ({}) and" if there else "neither image lists ({}) nor"
        remedy = "Choose one source, the same for every task." if there else "Is it the right folder?"
        raise DataError(
            f"{visible(str(folder))} has {found.format(visible(str(lists)))} TFDS data "
            f"({visible(str(prepared))}) of {name}. {remedy}"
        )
    if (source or there[0]) == "image lists":
        return read_image_lists(lists, task)
    return _read_prepared(open_prepared(prepared, task.versions), task)


def vtab_sources(directory: Path | str, name: str) -> tuple[Source, ...]:
    """Where `directory` has a task of VTAB-1k from, at a glance: its files may still be broken.

    Raises:
        DataError: the folders cannot be looked at.
    """
    folder = Path(directory)
    there: dict[Source, bool] = {
        "tfds": bool(prepared_versions(folder / VTAB[name].folder)),
        "image lists": has_lists(find_lists(folder, name)),
    }
    return tuple(source for source, found in there.items() if found)


def vtab_notes(directory: Path | str, name: str) -> tuple[str, ...]:
    """Why a task's images in a TFDS data directory may be others than those of published numbers.

    Raises:
        DataError: no such data, or its dataset_info.json is broken.
    """
    return _notes(name, open_prepared(Path(directory) / VTAB[name].folder, VTAB[name].versions))


def _read_prepared(data: PreparedDataset, task: VtabTask) -> VtabData:
    names = None if task.label else class_names(data, task.keys[0], task.num_classes)
    try:
        slices = task.slices(data.counts())
    except KeyError as error:
        raise DataError(f"{data.where} has no split {error}; {task.name} needs it.") from error
    for (split, start, stop), (other, first, last) in combinations(slices, 2):
        if split == other and start < last and first < stop:  # Only data of another size can overlap.
            raise DataError(
                f"{data.where}: too few examples for {task.name}: {split}[{start}:{stop}] and "
                f"{other}[{first}:{last}] overlap. Is it the official data?"
            )
    train, val, test = (_read_split(task, data, *part) for part in slices)
    classes = CLASS_NAMES.get(task.name) or names or tuple(map(str, range(task.num_classes)))
    made = Task(name=task.name, classes=classes, train=train, val=val, test=test, complete=False)
    return VtabData(task=made, source="tfds", where=data.where, notes=_notes(task.name, data))


def _notes(name: str, data: PreparedDataset) -> tuple[str, ...]:
    """Where TFDS itself makes other images of the same task (the builders of TFDS 3.2.1 to 4.9.10)."""
    if name == "oxford_iiit_pet" and data.folder.name.startswith("4."):
        return (
            f"version {data.folder.name} stores 12 damaged images compressed once more. Published numbers "
            "are of 3.*.*, which TFDS before 4.9.7 prepares; order, labels and all else are the same.",
        )
    if name in ("eurosat", "resisc45") and data.before_4_2:
        return (
            "TFDS before 4.2.0 prepared it, in an order that depends on the folder it was unpacked to: the "
            "800 + 200 images are others than those of later versions, on which VPT's numbers rest. Prepare "
            "it again with a later version to compare.",
        )
    if name == "caltech101":
        return (
            "TFDS draws its training images from the order in which the file system lists the files, so that "
            "a copy prepared on another machine may hold others. Compare methods on one copy.",
        )
    return ()


def _read_split(task: VtabTask, data: PreparedDataset, split: str, start: int, stop: int) -> Split:
    images: list[ImageSource] = []
    labels: list[int] = []
    for record in read_slice(data, split, start, stop, ("image", *task.keys)):
        image = record.image("image")
        images.append(BinaryImage(file=image) if task.binary else image)
        labels.append(_label(task, record))
    return Split(images=tuple(images), labels=tuple(labels))


def _label(task: VtabTask, record: Record) -> int:
    try:
        label = task.label(record) if task.label else record.one(task.keys[0], int)
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{record.name}: no label of {task.name}: {error}. Is it the right data?") from error
    if not 0 <= label < task.num_classes:
        raise DataError(
            f"{record.name}: the label of {task.name} is {label}; expected 0 to {task.num_classes - 1}."
        )
    return label
