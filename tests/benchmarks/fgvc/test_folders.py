"""The folder of a data set is found where it is, one level below, or in archives."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

from e2vpt.benchmarks.fgvc.folders import image_files, open_fgvc
from e2vpt.benchmarks.fgvc.lists import ImageLists, ListedImage
from e2vpt.data.listing import list_folder
from e2vpt.errors import DataError


def _fill(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    return root


def _lists(*paths: str) -> ImageLists:
    images = tuple(ListedImage(path=path, class_id=1, split="train") for path in paths)
    return ImageLists(where="birds", images=images, class_names={1: "Goose"})


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        (("images/a.jpg", "list.txt"), {"images/a.jpg", "list.txt"}),
        (("CUB/images/a.jpg", "CUB/list.txt", "beside.txt"), {"images/a.jpg", "list.txt"}),
        (("images/a.jpg", "older/images/b.jpg"), {"images/a.jpg", "older/images/b.jpg"}),
        (("A/images/a.jpg", "B/images/b.jpg"), {"A/images/a.jpg", "B/images/b.jpg"}),
        (("pictures/a.jpg", "list.txt"), {"pictures/a.jpg", "list.txt"}),
    ],
)
def test_where_the_folder_is(tmp_path: Path, paths: tuple[str, ...], found: set[str]) -> None:
    listing = open_fgvc(_fill(tmp_path, *paths), ("images",))
    assert {"/".join(parts) for parts in listing.files} == found


@pytest.mark.parametrize("inside", ["", "CUB/"])
def test_archives_count_as_unpacked_only_where_images_are_not(tmp_path: Path, inside: str) -> None:
    _fill(tmp_path / "new", f"{inside}images/a.jpg")
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        tar.add(tmp_path / "new" / inside / "images" / "a.jpg", arcname=f"{inside}images/a.jpg")
    shutil.rmtree(tmp_path / "new")
    listing = open_fgvc(tmp_path, ("images",))
    assert listing.files["images", "a.jpg"].path == tmp_path / "images.tar"
    _fill(tmp_path, "images/a.jpg")
    (tmp_path / "images.tar").write_bytes(b"damaged, and not needed")
    assert open_fgvc(tmp_path, ("images",)).files["images", "a.jpg"].path == tmp_path / "images" / "a.jpg"


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "images.tar").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"images\.tar is not a whole, uncompressed \.tar"):
        open_fgvc(tmp_path, ("images",))


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
