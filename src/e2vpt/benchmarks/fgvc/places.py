"""Where the five fine-grained data sets lie in one directory: a folder each, by any of its usual names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from e2vpt.benchmarks.fgvc.read import FGVC, FgvcName
from e2vpt.errors import DataError, visible
from e2vpt.files.paths import listed, look_at

FOLDERS: Mapping[FgvcName, tuple[str, ...]] = {
    "cub-200-2011": ("CUB_200_2011", "CUB", "CUB200"),
    "nabirds": ("nabirds",),
    "oxford-flowers": (
        *("OxfordFlowers", "OxfordFlower", "OxfordFlowers102", "flowers", "102flowers", "flowers-102"),
    ),
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
    where = visible(str(directory))
    if (kind := look_at(directory, DataError)) != "folder":
        raise DataError(f"{where} is {kind}. Expected the folder that holds the data sets.")
    called = {_plain(own): name for name in FGVC for own in (name, *FOLDERS[name])}
    found: dict[FgvcName, Path] = {}
    for path in listed(directory, DataError):
        is_folder = look_at(path, DataError) == "folder"
        name = called.get(_plain(path.name if is_folder else path.stem))
        if name is None or not (is_folder or path.suffix.lower() == ".tar"):
            continue
        if name in found:
            raise DataError(
                f"{where}: {found[name].name} and {path.name} both mean {name}. Keep one; move or rename the "
                "other."
            )
        found[name] = path
    if not found:
        raise DataError(
            f"{where} holds none of the FGVC data sets. Expected a folder for each, named "
            f"{', '.join(FGVC)}, or as usual: {', '.join(usual[0] for usual in FOLDERS.values())}."
        )
    return {name: found[name] for name in FGVC if name in found}


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))
