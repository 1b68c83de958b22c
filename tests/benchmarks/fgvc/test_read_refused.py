"""Of fine-grained data, what is missing, in no list, or not as published is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fgvc_for_tests import Write, each_layout, image_bytes, sizes, write_cub, write_dog_list

from e2vpt.benchmarks.fgvc.read import FgvcName, check_fgvc, load_fgvc
from e2vpt.config import DataConfig
from e2vpt.errors import DataError


def test_check_says_what_differs_from_the_published_numbers(tmp_path: Path) -> None:
    write_cub(tmp_path)
    assert check_fgvc(tmp_path, "cub-200-2011")[1] == [
        "3 classes; published are 200.",
        "train has 27 images; published are 5394.",
        "val has 3 images; published are 600.",
        "test has 6 images; published are 5794.",
    ]


def test_check_is_silent_on_the_published_numbers(tmp_path: Path) -> None:
    """Stanford Dogs at its true size, 120 breeds with 100 images each to train on, all of them one file."""
    (tmp_path / "one.jpg").write_bytes(image_bytes(0))
    rows: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
    for label in range(1, 121):
        folder = f"n{label:08d}-breed_{label}"
        (tmp_path / "Images" / folder).mkdir(parents=True)
        for i in range(171 if label <= 60 else 172):
            path = f"{folder}/{i}.jpg"
            (tmp_path / "Images" / path).hardlink_to(tmp_path / "one.jpg")
            rows["train" if i < 100 else "test"].append((path, label))
    for split, listed in rows.items():
        write_dog_list(tmp_path / f"{split}_list.mat", *zip(*listed, strict=True))
    assert check_fgvc(tmp_path, "stanford-dogs")[1] == []


@each_layout
def test_a_missing_image_is_named(
    tmp_path: Path, name: FgvcName, write: Write, classes: tuple[str, ...], counts: dict[str, int]
) -> None:
    gone = list(write(tmp_path))[5]
    (tmp_path / gone).unlink()
    listed = sum(counts.values())
    with pytest.raises(DataError, match=rf"missing \({listed} are listed\):\n  {gone}\nUnpack"):
        load_fgvc(tmp_path, name, DataConfig())


@each_layout
def test_an_image_in_no_list_is_named(
    tmp_path: Path, name: FgvcName, write: Write, classes: tuple[str, ...], counts: dict[str, int]
) -> None:
    more = Path(next(iter(write(tmp_path)))).with_name("more.jpg")
    (tmp_path / more).write_bytes(image_bytes(0))
    for load in (lambda: load_fgvc(tmp_path, name, DataConfig()), lambda: check_fgvc(tmp_path, name)):
        with pytest.raises(DataError, match=rf"images that no list names:\n  {more.as_posix()}\nMove"):
            load()


@each_layout
def test_every_list_is_needed_and_has_to_be_whole(
    tmp_path: Path, name: FgvcName, write: Write, classes: tuple[str, ...], counts: dict[str, int]
) -> None:
    write(tmp_path)
    needed = [
        path
        for path in tmp_path.rglob("*")
        if path.suffix in (".mat", ".txt") and path.name != "hierarchy.txt"
    ]
    assert needed
    for path in needed:
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(DataError, match=rf"has no .*{path.name}.*Unpack the official archive"):
            load_fgvc(tmp_path, name, DataConfig())
        last_line = whole.rstrip().rfind(b"\n")  # Of lines that are missing other lists tell.
        path.write_bytes(whole[: len(whole) * 9 // 10 if path.suffix == ".mat" else last_line])
        with pytest.raises(DataError, match=path.name):
            load_fgvc(tmp_path, name, DataConfig())
        path.write_bytes(whole)
    assert sizes(load_fgvc(tmp_path, name, DataConfig())) == counts


def test_a_compressed_archive_has_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "CUB_200_2011.tgz").write_bytes(b"\x1f\x8b")
    with pytest.raises(DataError, match=r"Unpack it and give the folder"):
        load_fgvc(tmp_path / "CUB_200_2011.tgz", "cub-200-2011", DataConfig())
    with pytest.raises(DataError, match=r"found CUB_200_2011.tgz. Unpack CUB_200_2011.tgz there"):
        load_fgvc(tmp_path, "cub-200-2011", DataConfig())


def test_nothing_there_and_no_such_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load_fgvc(tmp_path / "gone", "nabirds", DataConfig())
    with pytest.raises(DataError, match="'cub' is no data set of FGVC; expected cub-200-2011, nabirds"):
        load_fgvc(tmp_path, "cub", DataConfig())  # type: ignore[arg-type]
