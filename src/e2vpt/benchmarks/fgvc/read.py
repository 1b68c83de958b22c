"""The five fine-grained data sets of VPT and E²VPT, from their official archives as unpacked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from e2vpt.benchmarks.fgvc.birds import read_cub, read_nabirds
from e2vpt.benchmarks.fgvc.cars import read_cars
from e2vpt.benchmarks.fgvc.dogs import read_dogs
from e2vpt.benchmarks.fgvc.flowers import read_flowers
from e2vpt.benchmarks.fgvc.folders import image_files, open_fgvc
from e2vpt.benchmarks.fgvc.lists import ImageLists
from e2vpt.benchmarks.fgvc.splits import read_vpt_splits, spare_for_validation
from e2vpt.config import DataConfig
from e2vpt.data.decoding.images import ImageSource
from e2vpt.data.sources.listing import Listing
from e2vpt.data.sources.splits import SplitName, build_task
from e2vpt.data.task import Task
from e2vpt.errors import DataError

FgvcName = Literal["cub-200-2011", "nabirds", "oxford-flowers", "stanford-dogs", "stanford-cars"]
FGVC: tuple[FgvcName, ...] = get_args(FgvcName)
_Splits = Mapping[str, SplitName]
"""By the image's official path."""


@dataclass(frozen=True, slots=True)
class FgvcSet:
    """How a data set is read, where its images may lie, and its published numbers of classes and images."""

    read: Callable[[Listing], ImageLists]
    image_folders: tuple[str, ...]
    classes: int
    images: Mapping[str, int]


def _sizes(train: int, val: int, test: int) -> dict[str, int]:
    return {"train": train, "val": val, "test": test}


# Numbers: the table of data sets in the appendix of VPT (arXiv 2203.12119), a tenth of the official training
# images, rounded up, for validation. The official numbers are confirmed by google-research/task_adaptation
# (data/cub_test.py, data/cars_test.py), TFDS's catalog (oxford_flowers102, stanford_dogs) and, for their sum,
# NABirds' own page (48,562).
DATA_SETS: Mapping[FgvcName, FgvcSet] = {
    "cub-200-2011": FgvcSet(read_cub, ("images",), 200, _sizes(5394, 600, 5794)),
    "nabirds": FgvcSet(read_nabirds, ("images",), 555, _sizes(21536, 2393, 24633)),
    "oxford-flowers": FgvcSet(read_flowers, ("jpg",), 102, _sizes(1020, 1020, 6149)),
    "stanford-dogs": FgvcSet(read_dogs, ("Images",), 120, _sizes(10800, 1200, 8580)),
    "stanford-cars": FgvcSet(read_cars, ("cars_train", "car_ims"), 196, _sizes(7329, 815, 8041)),
}


def load_fgvc(directory: str | Path, name: FgvcName, config: DataConfig) -> Task:
    """The task in `directory`, one of `FGVC`, its images read in place; classes are in order of their ids.

    `directory` holds what the official archives unpack to, with folders around it or none. Uncompressed .tar
    files (Stanford Dogs comes as images.tar and lists.tar) need not be unpacked. With `train.json`,
    `val.json` and `test.json` beside the lists, these say which images are in which split. Otherwise the
    official test images are the test split, and `config.val_fraction` of the others, chosen by
    `config.split_seed`, validate; Oxford Flowers has a validation split of its own.

    Raises:
        DataError: a list that is missing, truncated, does not parse or disagrees with another, an image that
            is missing or in no list, a compressed archive.
    """
    return _read(directory, name, config)[0]


def check_fgvc(directory: str | Path, name: FgvcName) -> tuple[Task, list[str]]:
    """The task, and what differs from the published data set, one sentence each; none if nothing does.

    Compares the numbers of classes and of images in each split, as `load_fgvc` gives them by default, and
    VPT's JSON files, where there are any, with the official lists. Images are not decoded.

    Raises:
        DataError: as for `load_fgvc`, for what is not only different but wrong.
    """
    task, lists, vpt = _read(directory, name, DataConfig())
    published, counted = DATA_SETS[name], {which: len(split) for which, split in task.splits().items()}
    differences = [
        f"{which} has {counted.get(which, 0)} images; published are {images}."
        for which, images in published.images.items()
        if counted.get(which, 0) != images
    ]
    if len(task.classes) != published.classes:
        differences.insert(0, f"{len(task.classes)} classes; published are {published.classes}.")
    return task, differences if vpt is None else differences + _json_differences(lists, vpt)


def _read(
    directory: str | Path, name: FgvcName, config: DataConfig
) -> tuple[Task, ImageLists, _Splits | None]:
    """The task, its lists, and VPT's splits, if any."""
    if name not in DATA_SETS:
        raise DataError(f"{name!r} is no data set of FGVC; expected {', '.join(FGVC)}.")
    listing = open_fgvc(Path(directory).expanduser(), DATA_SETS[name].image_folders)
    lists = DATA_SETS[name].read(listing)
    vpt = read_vpt_splits(listing, lists)
    files = image_files(listing, lists)
    split_of = _official_splits(lists, config) if vpt is None else vpt
    labelled: dict[SplitName | Literal["all"], list[tuple[ImageSource, str]]] = {}
    for image in lists.images:
        if image.path in split_of:
            pair = files[image.path], lists.class_names[image.class_id]
            labelled.setdefault(split_of[image.path], []).append(pair)
    return build_task(name, list(lists.class_names.values()), labelled, config), lists, vpt


def _official_splits(lists: ImageLists, config: DataConfig) -> _Splits:
    split_of = {image.path: image.split for image in lists.images}
    if "val" not in split_of.values():
        train = [image for image in lists.images if image.split == "train"]
        labels = [image.class_id for image in train]
        spared = spare_for_validation(labels, config.val_fraction, config.split_seed)
        split_of.update({train[index].path: "val" for index in spared})
    return split_of


def _json_differences(lists: ImageLists, vpt: _Splits) -> list[str]:
    """Where VPT's JSON files part from the official lists."""
    differences = []
    if left_out := sum(image.path not in vpt for image in lists.images):
        differences.append(f"{left_out} images of the official lists are in none of the JSON files.")
    official = {image.path for image in lists.images if image.split == "test"}
    given = {path for path, split in vpt.items() if split == "test"}
    if given != official:
        differences.append(
            f"test.json lacks {len(official - given)} images of the official test split "
            f"and has {len(given - official)} others."
        )
    return differences
