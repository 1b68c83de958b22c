"""Reading the tasks of VTAB-1k from TFDS data, image lists or Hugging Face data sets, never mixed."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from e2vpt.benchmarks.vtab.data import Source, VtabData
from e2vpt.benchmarks.vtab.hub import has_vtab_hub, read_vtab_hub
from e2vpt.benchmarks.vtab.image_lists import find_lists, has_lists, read_image_lists
from e2vpt.benchmarks.vtab.tasks import CLASS_NAMES, VTAB, VtabTask
from e2vpt.benchmarks.vtab.tfds import (
    BinaryImage,
    PreparedDataset,
    Record,
    class_names,
    find_prepared,
    open_prepared,
    read_slice,
)
from e2vpt.data.images import ImageSource
from e2vpt.data.task import Split
from e2vpt.errors import DataError


def read_vtab(directory: Path | str, name: str, *, source: Source | None = None) -> VtabData:
    """A task of VTAB-1k from a TFDS data directory, a folder of image lists, or Hugging Face data sets.

    The last are named by a text that begins with `hf:` and holds `{task}`, see `read_vtab_hub`. Every record
    of TFDS data is held to its checksum.

    Raises:
        DataError: no such task, no such data, both sources in one directory and none chosen by `source`,
            another one chosen than the text names, and whatever is wrong with the files.
        MissingExtra: `hf:` without the `datasets` package, TFDS data without protobuf or google-crc32c.
    """
    if name not in VTAB:
        raise DataError(f"{name!r} is no task of VTAB-1k. Expected one of {', '.join(VTAB)}.")
    task, hub = VTAB[name], _is_hub(directory)
    if source is not None and hub != (source == "hugging face"):
        raise DataError(
            f"The source {source!r} was asked for, but {directory} is {'' if hub else 'not '}an address of "
            "Hugging Face data sets, which begin with hf:. Change the one or the other."
        )
    if hub:
        return read_vtab_hub(str(directory), task)
    folder, there = Path(directory), vtab_sources(directory, name)
    if source is None and len(there) != 1:
        above, lists = folder / task.folder, find_lists(folder, name)
        found = f"both image lists ({lists}) and" if there else "neither image lists nor"
        remedy = "Choose one source, the same for every task." if there else "Is it the right folder?"
        raise DataError(f"{directory} has {found} TFDS data ({above}) of {name}. {remedy}")
    if (source or there[0]) == "image lists":
        return read_image_lists(find_lists(folder, name), task)
    return _read_prepared(folder, task)


def vtab_sources(directory: Path | str, name: str) -> tuple[Source, ...]:
    """Where `directory` has a task of VTAB-1k from, at a glance: its files may still be broken.

    Data sets that are not on this machine count as being there.
    """
    task = VTAB[name]
    if _is_hub(directory):
        return ("hugging face",) if has_vtab_hub(str(directory), task) else ()
    folder = Path(directory)
    there: dict[Source, bool] = {
        "tfds": any((folder / task.folder).glob("*/dataset_info.json")),
        "image lists": has_lists(find_lists(folder, name)),
    }
    return tuple(source for source, found in there.items() if found)


def _is_hub(directory: Path | str) -> bool:
    return isinstance(directory, str) and directory.startswith("hf:")


def _read_prepared(directory: Path, task: VtabTask) -> VtabData:
    data = open_prepared(find_prepared(directory / task.folder, task.versions))
    names = None if task.label else class_names(data, task.keys[0], task.label_values)
    try:
        slices = task.slices(data.counts())
    except KeyError as error:
        raise DataError(f"{data.folder} has no split {error}; {task.name} needs it.") from error
    for (split, start, stop), (other, first, last) in combinations(slices, 2):
        if split == other and start < last and first < stop:  # Only data of another size can overlap.
            raise DataError(
                f"{data.folder}: too few examples for {task.name}: {split}[{start}:{stop}] and "
                f"{other}[{first}:{last}] overlap. Is it the official data?"
            )
    train, val, test = (_read_split(task, data, *part) for part in slices)
    return VtabData(
        name=task.name,
        source="tfds",
        where=str(data.folder),
        classes=CLASS_NAMES.get(task.name) or names or tuple(map(str, range(task.num_classes))),
        train=train,
        val=val,
        test=test,
    )


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
