"""The 19 tasks of VTAB-1k: which TFDS data they are made of, their splits and labels.

Splits, labels and versions are those of google-research/task_adaptation (data/*.py, commit d7630d3, with the
arguments of scripts/run_all_tasks.sh; sizes of test sets in data/*_test.py) and of KMnP/vpt (VTAB_SETUP.md),
which differ in KITTI's version only. Which images they are follows from TFDS's order over the shards, the
same wherever TFDS prepared the data, with the exceptions that `read._notes` names.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from e2vpt.benchmarks.vtab.tfds import Record

Group = Literal["natural", "specialized", "structured"]
Slices = tuple[tuple[str, int, int], tuple[str, int, int], tuple[str, int, int]]
"""Training, validation, test: each the TFDS split, the first example, and the one after the last."""

TRAIN_IMAGES, VAL_IMAGES = 800, 200
_CLEVR_EDGES = (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0)
_KITTI_EDGES = (-100.0, 8.0, 20.0, 999.0)
_KITTI_NO_VEHICLE = 1000.0
_KITTI_VEHICLES = (0, 1, 2)
"""Car, van and truck among TFDS's types of objects."""


@dataclass(frozen=True, slots=True)
class VtabTask:
    """One task: its TFDS data, what makes a label of a record's features `keys`, and the official slices.

    Attributes:
        name, group, num_classes: which.
        data: TFDS data as `name[/config]:versions`, several versions in order of preference.
        slices: the official slices, given how many examples each split has.
        test_images: the published size of the test set, which readers do not insist on.
        keys: features that make a label: the one's value, or what `label` makes of them.
        binary: images hold 0 and 1 for black and white.
    """

    name: str
    group: Group
    num_classes: int
    data: str
    slices: Callable[[Mapping[str, int]], Slices]
    test_images: int
    keys: tuple[str, ...] = ("label",)
    label: Callable[[Record], int] | None = None
    binary: bool = False

    @property
    def folder(self) -> str:
        """Where TFDS puts the data, without a version: `name` or `name/config`."""
        return self.data.partition(":")[0]

    @property
    def versions(self) -> list[str]:
        """As patterns such as `3.*.*`."""
        return self.data.partition(":")[2].split(",")


def clevr_count(record: Record) -> int:
    """3 to 10 objects are classes 0 to 7."""
    return len(record.values("objects/size", int)) - 3


def clevr_distance(record: Record) -> int:
    """The bin of the closest object's distance; an edge belongs to the bin below it.

    Raises:
        ValueError: no objects, or broken coordinates.
    """
    return bisect_left(_CLEVR_EDGES, min(_depths(record, "objects/pixel_coords"))) - 1


def kitti_distance(record: Record) -> int:
    """The bin of the closest car's, van's or truck's distance in metres, edges as above; 3 for none.

    Raises:
        ValueError: broken coordinates, or another number of them than of objects.
    """
    types, depths = record.values("objects/type", int), _depths(record, "objects/location")
    distances = [distance for type, distance in zip(types, depths, strict=True) if type in _KITTI_VEHICLES]
    return bisect_left(_KITTI_EDGES, min([*distances, _KITTI_NO_VEHICLE])) - 1


def _sixteenth(key: str, values: int, record: Record) -> int:
    """The one of 16 equal bins into which one of so many values falls."""
    return record.one(key, int) * 16 // values


def _own_validation(counts: Mapping[str, int]) -> Slices:
    return ("train", 0, TRAIN_IMAGES), ("validation", 0, VAL_IMAGES), ("test", 0, counts["test"])


def _held_out(percent: int, test: str, counts: Mapping[str, int]) -> Slices:
    """Validation from where `percent` of the training split end."""
    start = counts["train"] * percent // 100
    return ("train", 0, TRAIN_IMAGES), ("train", start, start + VAL_IMAGES), (test, 0, counts[test])


def _carved(percent: int, val_percent: int, counts: Mapping[str, int]) -> Slices:
    """All from the training split, which is the only one; the two shares are rounded down one by one."""
    total = counts["train"]
    start = total * percent // 100
    test = start + total * val_percent // 100
    return ("train", 0, TRAIN_IMAGES), ("train", start, start + VAL_IMAGES), ("train", test, total)


def _halved_test(counts: Mapping[str, int]) -> Slices:
    """TFDS rounds percentages to the closest example."""
    total = counts["test"]
    return ("train", 0, TRAIN_IMAGES), ("test", 0, VAL_IMAGES), ("test", round(total * 50 / 100), total)


def _depths(record: Record, key: str) -> list[float]:
    """The third of three coordinates of each object."""
    coordinates = record.values(key, float)
    if len(coordinates) % 3:
        raise ValueError(f"{key} holds {len(coordinates)} numbers, no multiple of 3")
    return coordinates[2::3]


_LAST_TENTH, _LAST_FIFTH = partial(_held_out, 90, "test"), partial(_held_out, 80, "test")
_CLEVR = partial(_held_out, 90, "validation")
_IN_FIVES, _IN_TENS = partial(_carved, 60, 20), partial(_carved, 80, 10)
_RETINOPATHY, _NORB = "diabetic_retinopathy_detection/btgraham-300:3.*.*", "smallnorb:2.*.*"
CLASS_NAMES: Mapping[str, tuple[str, ...]] = {
    "clevr_count": tuple(f"{n} objects" for n in range(3, 11)),
    "clevr_distance": ("to 8", "to 8.5", "to 9", "to 9.5", "to 10", "over 10"),
    "kitti_distance": ("to 8 m", "to 20 m", "over 20 m", "no vehicle"),
    "smallnorb_azimuth": tuple(f"{20 * n} degrees" for n in range(18)),
    "smallnorb_elevation": tuple(f"{30 + 5 * n} degrees" for n in range(9)),
}

_Label = tuple[tuple[str, ...], Callable[[Record], int]]
_COUNT: _Label = (("objects/size",), clevr_count)
_CLOSEST: _Label = (("objects/pixel_coords",), clevr_distance)
_VEHICLE: _Label = (("objects/type", "objects/location"), kitti_distance)
_LOCATION: _Label = (("label_x_position",), partial(_sixteenth, "label_x_position", 32))
_ORIENTATION: _Label = (("label_orientation",), partial(_sixteenth, "label_orientation", 40))
_TASKS = (
    VtabTask("cifar100", "natural", 100, "cifar100:3.*.*", _LAST_TENTH, 10000),
    VtabTask("caltech101", "natural", 102, "caltech101:3.*.*", _LAST_TENTH, 6084),
    VtabTask("dtd", "natural", 47, "dtd:3.*.*", _own_validation, 1880),
    VtabTask("oxford_flowers102", "natural", 102, "oxford_flowers102:2.*.*", _own_validation, 6149),
    VtabTask("oxford_iiit_pet", "natural", 37, "oxford_iiit_pet:3.*.*,4.*.*", _LAST_FIFTH, 3669),
    VtabTask("svhn", "natural", 10, "svhn_cropped:3.*.*", _LAST_TENTH, 26032),
    VtabTask("sun397", "natural", 397, "sun397/tfds:4.*.*", _own_validation, 21750),
    VtabTask("patch_camelyon", "specialized", 2, "patch_camelyon:2.*.*", _own_validation, 32768),
    VtabTask("eurosat", "specialized", 10, "eurosat/rgb:2.*.*", _IN_FIVES, 5400),
    VtabTask("resisc45", "specialized", 45, "resisc45:3.*.*", _IN_FIVES, 6300),
    VtabTask("diabetic_retinopathy", "specialized", 5, _RETINOPATHY, _own_validation, 42670),
    VtabTask("clevr_count", "structured", 8, "clevr:3.*.*", _CLEVR, 15000, *_COUNT),
    VtabTask("clevr_distance", "structured", 6, "clevr:3.*.*", _CLEVR, 15000, *_CLOSEST),
    VtabTask("dmlab", "structured", 6, "dmlab:2.0.1", _own_validation, 22735),
    # task_adaptation asks for 3.1.0, VPT for 3.2.0; TFDS makes the same examples for all three.
    VtabTask("kitti_distance", "structured", 4, "kitti:3.2.0,3.3.0,3.1.0", _own_validation, 711, *_VEHICLE),
    VtabTask("dsprites_location", "structured", 16, "dsprites:2.*.*", _IN_TENS, 73728, *_LOCATION, True),
    VtabTask(
        "dsprites_orientation", "structured", 16, "dsprites:2.*.*", _IN_TENS, 73728, *_ORIENTATION, True
    ),
    VtabTask("smallnorb_azimuth", "structured", 18, _NORB, _halved_test, 12150, ("label_azimuth",)),
    VtabTask("smallnorb_elevation", "structured", 9, _NORB, _halved_test, 12150, ("label_elevation",)),
)
VTAB: Mapping[str, VtabTask] = {task.name: task for task in _TASKS}
"""The tasks by name, in the order of the tables in the papers."""
