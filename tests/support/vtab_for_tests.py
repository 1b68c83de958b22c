"""Small instances of what the 19 tasks of VTAB-1k are read from, in the true format of prepared TFDS data."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from support import tfds_for_tests as written

Features = dict[str, written.Value]
_Instance = tuple[str, dict[str, int], Callable[[int], Features], dict[str, int]]
png = functools.cache(written.png)

_HELD_OUT = {"train": 2000, "test": 7}
_OWN = {"train": 820, "validation": 210, "test": 7}
_CARVED = {"train": 2005}


def _scene(i: int) -> Features:
    """CLEVR: 3 to 10 objects, the closest at the middle of a bin."""
    depth = (4.0, 8.25, 8.75, 9.25, 9.75, 50.0)[i % 6]
    coordinates = [float(v) for n in range(3 + i % 8) for v in (1.0, 2.0, depth + n)]
    return {"objects/size": [n % 2 for n in range(3 + i % 8)], "objects/pixel_coords": coordinates}


def _street(i: int) -> Features:
    """KITTI: a vehicle at 5, 15 or 25 m behind a close pedestrian, or none."""
    types = [3, i % 3] if i % 4 < 3 else [3]
    places = [0.0, 0.0, 1.0, 0.0, 0.0, (5.0, 15.0, 25.0, 0.0)[i % 4]][: 3 * len(types)]
    return {"objects/type": types, "objects/location": places}


def _toy(i: int) -> Features:
    return {"image2": png(9), "label_azimuth": [i % 18], "label_elevation": [i % 9]}


def _sprite(i: int) -> Features:
    return {"label_x_position": [i % 32], "label_orientation": [i % 40]}


def _label(classes: int) -> Callable[[int], Features]:
    return lambda i: {"label": [i % classes]}


DATA: dict[str, _Instance] = {
    "cifar100": ("cifar100/3.0.2", _HELD_OUT, _label(100), {"label": 100}),
    "caltech101": ("caltech101/3.0.1", _HELD_OUT, _label(102), {"label": 102}),
    "dtd": ("dtd/3.0.1", _OWN, _label(47), {"label": 47}),
    "oxford_flowers102": ("oxford_flowers102/2.1.1", _OWN, _label(102), {"label": 102}),
    "oxford_iiit_pet": ("oxford_iiit_pet/3.2.0", _HELD_OUT, _label(37), {"label": 37}),
    "svhn": ("svhn_cropped/3.0.0", _HELD_OUT, _label(10), {"label": 10}),
    "sun397": ("sun397/tfds/4.0.0", _OWN, _label(397), {"label": 397}),
    "patch_camelyon": ("patch_camelyon/2.0.0", _OWN, _label(2), {"label": 2}),
    "eurosat": ("eurosat/rgb/2.0.0", _CARVED, _label(10), {"label": 10}),
    "resisc45": ("resisc45/3.0.0", _CARVED, _label(45), {"label": 45}),
    "diabetic_retinopathy": (
        "diabetic_retinopathy_detection/btgraham-300/3.0.0",
        _OWN,
        _label(5),
        {"label": 5},
    ),
    "clevr_count": ("clevr/3.1.0", {"train": 2000, "validation": 9, "test": 3}, _scene, {}),
    "dmlab": ("dmlab/2.0.1", _OWN, _label(6), {"label": 6}),
    "kitti_distance": ("kitti/3.2.0", _OWN, _street, {}),
    "dsprites_location": (
        "dsprites/2.0.0",
        _CARVED,
        _sprite,
        {"label_x_position": 32, "label_orientation": 40},
    ),
    "smallnorb_azimuth": (
        "smallnorb/2.0.0",
        {"train": 805, "test": 410},
        _toy,
        {"label_azimuth": 18, "label_elevation": 9},
    ),
}
SAME = {
    "clevr_distance": "clevr_count",
    "dsprites_orientation": "dsprites_location",
    "smallnorb_elevation": "smallnorb_azimuth",
}


def write_vtab(root: Path, name: str, **changed: Callable[[int], Features]) -> Path:
    """The data of a task below `root`; image and label of an example depend on its number in its split."""
    place, counts, features, classes = DATA[SAME.get(name, name)]
    features = changed.get("features", features)
    mode = "L" if "dsprites" in place else "RGB"
    splits = {}
    for split, count in counts.items():
        payloads = [written.example({"image": png(i, mode)} | features(i)) for i in range(count)]
        third = count // 3
        splits[split] = [payloads[:third], payloads[third : 2 * third], payloads[2 * third :]]
    return written.write_prepared(root / place, place.split("/")[0], splits, classes)


def write_directory(root: Path) -> Path:
    """A TFDS data directory with all that the 19 tasks need."""
    for name in DATA:
        write_vtab(root, name)
    return root
