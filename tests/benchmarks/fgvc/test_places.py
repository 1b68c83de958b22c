"""Each of the five data sets is found by its own name or a usual one, and never guessed."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fgvc_for_tests import sizes, write_cub

from e2vpt.benchmarks.fgvc.places import FOLDERS, find_fgvc
from e2vpt.benchmarks.fgvc.read import FGVC, load_fgvc
from e2vpt.config import DataConfig
from e2vpt.errors import DataError


def _make(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).mkdir()


def test_own_names(tmp_path: Path) -> None:
    _make(tmp_path, *reversed(FGVC), "fgvc-aircraft")
    (tmp_path / "CUB_200_2011.tgz").write_bytes(b"packed, and no folder")
    assert list(find_fgvc(tmp_path).items()) == [(name, tmp_path / name) for name in FGVC]


@pytest.mark.parametrize(
    "names",
    [
        ("CUB_200_2011", "nabirds", "OxfordFlowers", "StanfordDogs", "StanfordCars"),
        ("CUB-200-2011", "NABirds", "oxford_flowers", "Stanford_Dogs", "stanford cars"),
        ("cub", "nabirds", "102flowers", "dogs", "cars"),
    ],
)
def test_usual_names(tmp_path: Path, names: tuple[str, ...]) -> None:
    _make(tmp_path, *names)
    assert find_fgvc(str(tmp_path)) == {name: tmp_path / at for name, at in zip(FGVC, names, strict=True)}


def test_some_are_enough(tmp_path: Path) -> None:
    _make(tmp_path, "nabirds", "cars_train")
    (tmp_path / "stanford-dogs.tar").write_bytes(b"")
    assert find_fgvc(tmp_path) == {
        "nabirds": tmp_path / "nabirds",
        "stanford-dogs": tmp_path / "stanford-dogs.tar",
    }


def test_every_data_set_has_usual_names_of_its_own() -> None:
    plain = [name.lower().replace("_", "") for usual in FOLDERS.values() for name in usual]
    assert tuple(FOLDERS) == FGVC and len(set(plain)) == len(plain)


def test_what_is_found_is_what_is_read(tmp_path: Path) -> None:
    write_cub(tmp_path / "CUB_200_2011")
    assert sizes(load_fgvc(find_fgvc(tmp_path)["cub-200-2011"], "cub-200-2011", DataConfig()))["test"] == 6


def test_two_folders_of_one_data_set(tmp_path: Path) -> None:
    _make(tmp_path, "CUB_200_2011", "cub-200-2011", "nabirds")
    with pytest.raises(DataError, match=r"CUB_200_2011 and cub-200-2011 both mean cub-200-2011\. Keep one"):
        find_fgvc(tmp_path)


def test_none_of_them(tmp_path: Path) -> None:
    _make(tmp_path, "images")
    (tmp_path / "nabirds").write_text("a file")
    with pytest.raises(DataError, match=r"holds none of .* cub-200-2011, nabirds, .* CUB_200_2011, nabirds"):
        find_fgvc(tmp_path)
    with pytest.raises(DataError, match=r"absent is nothing\. Expected the folder that holds"):
        find_fgvc(tmp_path / "absent")


def test_directories_that_cannot_be_looked_at(tmp_path: Path) -> None:
    for odd in ("x" * 300, "a\0b"):
        with pytest.raises(DataError, match="Cannot look at"):
            find_fgvc(tmp_path / odd)
