"""Where the five fine-grained data sets lie in one directory: a folder each, by any of its usual names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from e2vpt.benchmarks.fgvc.read import FGVC, FgvcName
from e2vpt.errors import DataError

FOLDERS: Mapping[FgvcName, tuple[str, ...]] = {
    "cub-200-2011": ("CUB_200_2011", "CUB", "CUB200"),
    "nabirds": ("nabirds",),
    "oxford-flowers": ("OxfordFlowers", "OxfordFlower", "OxfordFlowers102", "flowers", "102flowers"),
    "stanford-dogs": ("StanfordDogs", "StanfordDog", "dogs"),
    "stanford-cars": ("StanfordCars", "StanfordCar", "cars"),
}
"""Beside its own name: what the archive unpacks to, what VPT calls the data set (github.com/KMnP/vpt,
src/data/loader.py), and what it is called elsewhere. Capitals, `-`, `_` and spaces make no difference."""


def find_fgvc(directory: Path | str) -> dict[FgvcName, Path]:
    """The folder, or uncompressed .tar, of each data set in `directory`, those that are there.

    What a folder holds is not looked at; `load_fgvc` and `check_fgvc` take it from here.

    Raises:
        DataError: no such directory, none of them in it, or two folders that mean the same data set.
    """
    directory = Path(directory).expanduser()
    called = {_plain(own): name for name in FGVC for own in (name, *FOLDERS[name])}
    found: dict[FgvcName, list[Path]] = {}
    try:
        inside = sorted(directory.iterdir())
    except OSError as error:
        raise DataError(
            f"{directory} cannot be read: {error.strerror}. Expected the folder that holds the data sets."
        ) from error
    for path in inside:
        name = called.get(_plain(path.name if path.is_dir() else path.stem))
        if name and (path.is_dir() or path.suffix.lower() == ".tar"):
            found.setdefault(name, []).append(path)
    for name, paths in found.items():
        if len(paths) > 1:
            both = " and ".join(path.name for path in paths)
            raise DataError(f"{directory}: {both} both mean {name}. Keep one; move or rename the other.")
    if not found:
        raise DataError(
            f"{directory} holds none of the FGVC data sets. Expected a folder for each, named "
            f"{', '.join(FGVC)}, or as usual: {', '.join(usual[0] for usual in FOLDERS.values())}."
        )
    return {name: found[name][0] for name in FGVC if name in found}


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))
