"""The table of VTAB-1k: official slices, and labels at every edge of their bins."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from e2vpt.benchmarks.vtab.example import Values
from e2vpt.benchmarks.vtab.tasks import VTAB, Slices, clevr_count, clevr_distance, kitti_distance
from e2vpt.benchmarks.vtab.tfds import Record

_OFFICIAL: list[tuple[str, dict[str, int], Slices]] = [
    (
        "cifar100",
        {"train": 50000, "test": 10000},
        (("train", 0, 800), ("train", 45000, 45200), ("test", 0, 10000)),
    ),
    (
        "caltech101",
        {"train": 3059, "test": 6084},
        (("train", 0, 800), ("train", 2753, 2953), ("test", 0, 6084)),
    ),
    (
        "svhn",
        {"train": 73257, "test": 26032},
        (("train", 0, 800), ("train", 65931, 66131), ("test", 0, 26032)),
    ),
    (
        "oxford_iiit_pet",
        {"train": 3680, "test": 3669},
        (("train", 0, 800), ("train", 2944, 3144), ("test", 0, 3669)),
    ),
    (
        "clevr_count",
        {"train": 70000, "validation": 15000, "test": 15000},
        (("train", 0, 800), ("train", 63000, 63200), ("validation", 0, 15000)),
    ),
    ("eurosat", {"train": 27000}, (("train", 0, 800), ("train", 16200, 16400), ("train", 21600, 27000))),
    ("resisc45", {"train": 31500}, (("train", 0, 800), ("train", 18900, 19100), ("train", 25200, 31500))),
    (
        "dsprites_orientation",
        {"train": 737280},
        (("train", 0, 800), ("train", 589824, 590024), ("train", 663552, 737280)),
    ),
    (
        "smallnorb_azimuth",
        {"train": 24300, "test": 24300},
        (("train", 0, 800), ("test", 0, 200), ("test", 12150, 24300)),
    ),
    (
        "kitti_distance",
        {"train": 6347, "validation": 423, "test": 711},
        (("train", 0, 800), ("validation", 0, 200), ("test", 0, 711)),
    ),
]


@pytest.mark.parametrize(("name", "counts", "slices"), _OFFICIAL)
def test_the_slices_of_the_official_data(name: str, counts: Mapping[str, int], slices: Slices) -> None:
    task = VTAB[name]
    assert task.slices(counts) == slices
    _, start, stop = slices[2]
    assert stop - start == task.test_images


def test_the_table_holds_the_benchmark() -> None:
    groups = [
        (group, len(list(tasks))) for group, tasks in itertools.groupby(VTAB.values(), lambda t: t.group)
    ]
    assert groups == [("natural", 7), ("specialized", 4), ("structured", 8)]
    assert [task.num_classes for task in VTAB.values()] == [
        *(100, 102, 47, 102, 37, 10, 397),
        *(2, 10, 45, 5),
        *(8, 6, 6, 4, 16, 16, 18, 9),
    ]


def _objects(kind: str, key: str, types: Sequence[int], depths: Sequence[float]) -> Record:
    coordinates = [float(np.float32(v)) for z in depths for v in (-5.0, 500.0, z)]
    features: dict[str, Values] = {f"objects/{kind}": list(types), f"objects/{key}": coordinates}
    return Record(name="here", path=Path("here"), offset=0, payload=b"", features=features)


def _above(number: float) -> float:
    return float(np.nextafter(np.float32(number), np.float32(math.inf)))


@pytest.mark.parametrize("objects", range(3, 11))
def test_clevr_counts(objects: int) -> None:
    assert clevr_count(_objects("size", "x", [1] * objects, [])) == objects - 3


@pytest.mark.parametrize(
    ("distance", "label"),
    [
        *((_above(0.0), 0), (1.0, 0), (8.0, 0), (_above(8.0), 1), (8.5, 1), (_above(8.5), 2), (9.0, 2)),
        *((_above(9.0), 3), (9.5, 3), (_above(9.5), 4), (10.0, 4), (_above(10.0), 5), (100.0, 5)),
        *((0.0, -1), (_above(100.0), 6)),
    ],
)
def test_clevr_distances(distance: float, label: int) -> None:
    """An edge belongs below: task_adaptation takes the last threshold that is less than the distance."""
    for depths in ([distance], [distance, 200.0], [150.0, distance, distance]):
        assert clevr_distance(_objects("size", "pixel_coords", [], depths)) == label


@pytest.mark.parametrize(
    ("distance", "label"),
    [
        *((-99.0, 0), (0.0, 0), (8.0, 0), (_above(8.0), 1), (20.0, 1), (_above(20.0), 2), (999.0, 2)),
        *((_above(999.0), 3), (5000.0, 3), (-100.0, -1)),
    ],
)
def test_kitti_distances(distance: float, label: int) -> None:
    for vehicle in (0, 1, 2):
        assert kitti_distance(_objects("type", "location", [vehicle], [distance])) == label
        assert kitti_distance(_objects("type", "location", [3, vehicle, 7], [-5.0, distance, 2.0])) == label


def test_kitti_without_vehicles() -> None:
    assert kitti_distance(_objects("type", "location", [], [])) == 3
    assert kitti_distance(_objects("type", "location", [3, 4, 5, 6, 7], [1.0, 1.0, 1.0, 1.0, 1.0])) == 3
    assert kitti_distance(_objects("type", "location", [0, 1, 2], [30.0, 9.0, 40.0])) == 1
