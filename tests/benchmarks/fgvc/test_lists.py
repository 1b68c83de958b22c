"""Lists of images: finding their files, and lines that name what is wrong with them."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from e2vpt.benchmarks.fgvc.lists import (
    ImageLists,
    ListedImage,
    distinct_names,
    find_file,
    read_file,
    read_pairs,
)
from e2vpt.data.decoding.images import ImageFile
from e2vpt.data.sources.listing import list_folder, list_tar
from e2vpt.errors import DataError


def _pairs(folder: Path, content: bytes) -> dict[int, str]:
    (folder / "a.txt").write_bytes(content)
    file = ImageFile(name="a.txt", path=folder / "a.txt")
    return read_pairs(file, int, str, "a number and a name")


def test_pairs(tmp_path: Path) -> None:
    content = "\ufeff2 Oak\u2028 Titmouse\r\n1\tSnow  Goose \n\n".encode()
    assert _pairs(tmp_path, content) == {2: "Oak\u2028 Titmouse", 1: "Snow  Goose"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1 a\n2\n", r"a\.txt, line 2: '2'; expected a number and a name"),
        (b"1 a\n\nx b\n", r"a\.txt, line 3: 'x b'; expected a number and a name"),
        (b"1 a\n2 b\n1 c\n", r"a\.txt, line 3: 1 was already there"),
        (b"1 a\n2 \xe9\n", r"a\.txt is not UTF-8 text \(.* at byte 6\)"),
    ],
)
def test_bad_lines(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _pairs(tmp_path, content)


def test_the_nearest_of_several_places_counts(tmp_path: Path) -> None:
    for path in ("cars/devkit/a.mat", "more/devkit/a.mat", "devkit/a.mat"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(path)
    assert read_file(find_file(list_folder(tmp_path), "gone.mat", "a.mat")) == b"devkit/a.mat"
    (tmp_path / "devkit" / "a.mat").unlink()
    with pytest.raises(DataError, match=r"has both cars/devkit/a\.mat and more/devkit/a\.mat\. Keep one"):
        find_file(list_folder(tmp_path), "a.mat")


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ([], r"has no a\.mat or b\.mat; found nothing\. Unpack the official archive there"),
        (["README", "jpg/1.jpg"], r"found jpg/, README\. Unpack the official archive"),
        (["devkit.tgz", "x.ZIP"], r"found devkit\.tgz, x\.ZIP\. Unpack devkit\.tgz, x\.ZIP there"),
        ([f"{i:02}" for i in range(25)], r"18, 19 and 5 more\. Unpack"),
        (["\x1b[2J.zip"], r"found \\x1b\[2J\.zip\. Unpack \\x1b\[2J\.zip there"),
    ],
)
def test_a_missing_file_is_named_beside_what_is_there(tmp_path: Path, there: list[str], message: str) -> None:
    for path in there:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("x")
    with pytest.raises(DataError, match=message):
        find_file(list_folder(tmp_path), "a.mat", "b.mat")


def test_files_are_read_from_archives_in_place(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"in {name}")
    with tarfile.open(tmp_path / "lists.tar", "w") as tar:
        for name in ("a.txt", "b.txt"):
            tar.add(tmp_path / name, arcname=name)
    file = find_file(list_tar(tmp_path / "lists.tar"), "b.txt")
    assert read_file(file) == b"in b.txt"
    with (tmp_path / "lists.tar").open("r+b") as archive:
        archive.truncate(file.offset + 2)
    with pytest.raises(DataError, match=r"b\.txt cannot be read: .*lists\.tar ends inside this image"):
        read_file(file)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a cannot be read: not a file, or a broken link\. Unpack it again"):
        read_file(ImageFile(name="a", path=tmp_path))
    with pytest.raises(DataError, match="a cannot be read: File name too long"):
        read_file(ImageFile(name="a", path=tmp_path / ("x" * 300)))


def test_only_names_that_occur_twice_get_their_ids() -> None:
    names = distinct_names({9: "Goose", 10: "Duck", 2: "Goose"})
    assert list(names.items()) == [(2, "Goose (2)"), (9, "Goose (9)"), (10, "Duck")]


def test_an_image_that_is_listed_twice() -> None:
    images = [ListedImage(path=path, class_id=1, split="train") for path in ("a.jpg", "b.jpg", "a.jpg")]
    with pytest.raises(DataError, match=r"birds: images that the lists name twice:\n  a\.jpg\nDownload"):
        ImageLists(where="birds", images=tuple(images), class_names={1: "Goose"})
