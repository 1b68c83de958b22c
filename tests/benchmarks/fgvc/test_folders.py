"""The folder of a data set is found where it is, one level below, or in archives."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

from e2vpt.benchmarks.fgvc.folders import KnownPaths, image_files, open_fgvc
from e2vpt.benchmarks.fgvc.lists import ImageLists, ListedImage
from e2vpt.data.sources.listing import list_folder
from e2vpt.errors import DataError


def _fill(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    return root


def _lists(*paths: str) -> ImageLists:
    images = tuple(ListedImage(path=path, class_id=1, split="train") for path in paths)
    return ImageLists(where="birds", images=images, class_names={1: "Goose"})


@pytest.mark.parametrize("inside", ["", "CUB/"])
def test_archives_count_as_unpacked_only_where_images_are_not(tmp_path: Path, inside: str) -> None:
    _fill(tmp_path / "new", f"{inside}images/a.jpg")
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        tar.add(tmp_path / "new" / inside / "images" / "a.jpg", arcname=f"{inside}images/a.jpg")
    shutil.rmtree(tmp_path / "new")
    listing = open_fgvc(tmp_path, ("images",))
    assert listing.files[(*Path(inside).parts, "images", "a.jpg")].path == tmp_path / "images.tar"
    _fill(tmp_path, "images/a.jpg")
    (tmp_path / "images.tar").write_bytes(b"damaged, and not needed")
    assert open_fgvc(tmp_path, ("images",)).files["images", "a.jpg"].path == tmp_path / "images" / "a.jpg"


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "images.tar").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"images\.tar is not a whole, uncompressed \.tar"):
        open_fgvc(tmp_path, ("images",))


@pytest.mark.parametrize(
    "places",
    [
        ("images/a/1.jpg", "images/b/1.jpg"),
        ("CUB/images/a/1.jpg", "CUB/images/b/1.jpg", "beside.jpg"),
        ("images/images/a/1.jpg", "images/images/b/1.jpg", "images/readme.txt"),
        ("images/a/1.jpg", "images/b/1.jpg", "older/images/a/1.jpg", "1.jpg", "cropped/a/1.jpg"),
    ],
)
def test_where_images_may_lie(tmp_path: Path, places: tuple[str, ...]) -> None:
    files = image_files(list_folder(_fill(tmp_path, *places)), _lists("images/a/1.jpg", "images/b/1.jpg"))
    assert [files[f"images/{which}/1.jpg"].path for which in "ab"] == [tmp_path / path for path in places[:2]]


def test_paths_are_known_by_their_ends() -> None:
    known = KnownPaths(["cars_train/1.jpg", "cars_test/1.jpg", "cars_test/2.jpg"])
    for text, path in (
        ("cars_train/1.jpg", "cars_train/1.jpg"),
        ("cars_train/cars_train/1.jpg", "cars_train/1.jpg"),
        ("data/cars_test/1.jpg", "cars_test/1.jpg"),
        ("2.jpg", "cars_test/2.jpg"),
        ("1.jpg", None),  # Of two.
        ("cars_train/2.jpg", None),
        ("s_test/2.jpg", None),
        ("", None),
    ):
        assert known.find(text.split("/")) == path


def test_listed_images_and_others(tmp_path: Path) -> None:
    _fill(tmp_path, "images/a.jpg", "images/b/c.png", "images/readme.txt", "parts/d.jpg", "e.jpg")
    listing = list_folder(tmp_path)
    files = image_files(listing, _lists("images/b/c.png", "images/a.jpg"))
    assert {path: file.path for path, file in files.items()} == {
        path: tmp_path / path for path in ("images/a.jpg", "images/b/c.png")
    }
    with pytest.raises(DataError, match=r"images that no list names:\n  images/b/c\.png\nMove"):
        image_files(listing, _lists("images/a.jpg"))


@pytest.mark.parametrize(
    "path", ["images/../e.jpg", "/etc/passwd", "images//a.jpg", "images", "images/A.jpg"]
)
def test_paths_that_lead_elsewhere_are_missing_images(tmp_path: Path, path: str) -> None:
    _fill(tmp_path, "images/a.jpg", "e.jpg")
    with pytest.raises(DataError, match=rf"but that are missing \(2 are listed\):\n  {path}\n"):
        image_files(list_folder(tmp_path), _lists("images/a.jpg", path))


def test_a_folder_that_cannot_be_looked_at(tmp_path: Path) -> None:
    for odd in ("x" * 300, "a\0b"):
        with pytest.raises(DataError, match="Cannot look at"):
            open_fgvc(tmp_path / odd, ("images",))
    with pytest.raises(DataError, match=r"\\x1b\[2J does not exist"):
        open_fgvc(tmp_path / "\x1b[2J", ("images",))
