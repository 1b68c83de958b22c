"""Folders and archives list the same; a damaged archive is refused as a whole."""

from __future__ import annotations

import os
import tarfile
from itertools import pairwise
from pathlib import Path

import pytest

from e2vpt.data.sources.listing import list_folder, list_tar, refuse
from e2vpt.errors import DataError

_FILES = {"a/1.png": b"one", "a/deep/2.png": b"22", "b/3.png": b"", "notes.txt": b"n"}
_HIDDEN = ["a/.DS_Store", "a/Thumbs.db", "__MACOSX/a/._1.png", ".git/x.png", "b/._3.png"]


def _folder(root: Path) -> Path:
    for name in [*_FILES, *_HIDDEN]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(_FILES.get(name, b"hidden"))
    (root / "empty").mkdir()
    return root


def _tar(folder: Path, archive: Path, arcname: str = ".") -> Path:
    with tarfile.open(archive, "w") as tar:
        tar.add(folder, arcname=arcname)
    return archive


def test_folder_and_archive_hold_the_same_files_and_bytes(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "data")
    for listing in (list_folder(folder), list_tar(_tar(folder, tmp_path / "data.tar"))):
        assert {"/".join(parts) for parts in listing.files} == set(_FILES)
        assert listing.tops() == ["a", "b", "empty"]
        assert set(listing.under("a").files) == {("1.png",), ("deep", "2.png")}
        for parts, file in listing.files.items():
            assert file.read() == _FILES["/".join(parts)]


def test_names_lead_to_the_file(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "data")
    assert list_folder(folder).files["b", "3.png"].name == str(folder / "b" / "3.png")
    archive = _tar(folder, tmp_path / "data.tar", "top")
    assert list_tar(archive).files["top", "b", "3.png"].name == f"{archive}:top/b/3.png"


def test_links_are_followed_and_loops_cut(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "data")
    (folder / "a" / "loop").symlink_to(folder)
    (folder / "c").symlink_to(folder / "b")
    (folder / "b" / "gone.png").symlink_to(tmp_path / "nowhere")
    listing = list_folder(folder)
    assert ("c", "3.png") in listing.files
    assert ("b", "gone.png") in listing.files
    assert not any("loop" in parts for parts in listing.files)


def test_names_that_are_not_unicode_stay_printable(tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes valid names only")
    (file,) = list_folder(tmp_path).files.values()
    assert file.name.endswith("\\xff.png")
    assert file.read() == b"x"


@pytest.mark.parametrize("keep", [0, 100, 700, 2048, 3072])
def test_a_cut_archive_is_refused_wherever_it_is_cut(tmp_path: Path, keep: int) -> None:
    archive = _tar(_folder(tmp_path / "data"), tmp_path / "data.tar")
    archive.write_bytes(archive.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"data\.tar is not a whole, uncompressed \.tar"):
        list_tar(archive)


def test_a_damaged_header_is_refused(tmp_path: Path) -> None:
    archive = _tar(_folder(tmp_path / "data"), tmp_path / "data.tar")
    data = bytearray(archive.read_bytes())
    with tarfile.open(archive) as tar:
        checksum = tar.getmembers()[3].offset + 148
    data[checksum] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(DataError, match="not a whole"):
        list_tar(archive)


def _member(archive: Path, name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Path:
    with tarfile.open(archive, "a") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, link
        tar.addfile(member)
    return archive


def test_archive_entries_that_are_no_plain_files(tmp_path: Path) -> None:
    archive = _tar(_folder(tmp_path / "data"), tmp_path / "data.tar")
    linked = list_tar(_member(archive, "b/hard.png", tarfile.LNKTYPE, "a/1.png")).files
    assert linked["b", "hard.png"].read() == b"one"
    with pytest.raises(DataError, match=r"b/soft\.png is a link"):
        list_tar(_member(archive, "b/soft.png", tarfile.SYMTYPE, "a/1.png"))


def _header(name: str, size: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A header whose size field holds `size`, with the right checksum."""
    member = tarfile.TarInfo(name)
    member.type = kind
    block = bytearray(member.tobuf(tarfile.USTAR_FORMAT))
    block[124:136], block[148:156] = size, b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize("kind", [b"0", b"x", b"g", b"L", b"K", b"5", b"2", b"7"])
@pytest.mark.parametrize("size", [(-512).to_bytes(12, "big", signed=True), b"\x80" + bytes(2) + b"\x7f" * 9])
def test_sizes_that_cannot_be_end_in_an_error(tmp_path: Path, kind: bytes, size: bytes) -> None:
    archive = tmp_path / "data.tar"
    good = _header("a/1.png", b"00000000000\0")
    archive.write_bytes(good + _header("a/2.png", size, kind) + good + bytes(1024))
    with pytest.raises(DataError, match=r"not a whole, uncompressed \.tar|is a link"):
        list_tar(archive)


def test_an_extended_header_cannot_lead_back(tmp_path: Path) -> None:
    archive = tmp_path / "data.tar"
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("a/1.png")
        member.pax_headers = {"size": "-1536"}
        tar.addfile(member)
    with pytest.raises(DataError, match="not a whole"):
        list_tar(archive)


def test_links_that_branch_are_refused_early(tmp_path: Path) -> None:
    levels = [tmp_path / f"level{i}" for i in range(24)]
    for folder in levels:
        folder.mkdir()
    for folder, below in pairwise(levels):
        for name in ("left", "right"):
            (folder / name).symlink_to(below)
    with pytest.raises(DataError, match=r"links lead to the folder .* in more than 64 ways"):
        list_folder(levels[0])


def test_an_archive_path_that_climbs_out_is_refused(tmp_path: Path) -> None:
    archive = _tar(_folder(tmp_path / "data"), tmp_path / "data.tar")
    with pytest.raises(DataError, match=r"\.\./\.\./etc/1\.png leaves the archive"):
        list_tar(_member(archive, "../../etc/1.png"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0)
    with pytest.raises(DataError, match="locked"):
        list_folder(tmp_path)


def test_refusals_are_cut_but_counted_and_always_printable() -> None:
    refuse("nothing", [], "never")
    with pytest.raises(DataError, match=r"gone:\n  00\n(.*\n)*  19\n  and 5 more\nFind them, then run"):
        refuse("gone", [f"{i:02}" for i in range(25)], "Find them")
    with pytest.raises(DataError, match=r"\\xff") as caught:
        refuse("gone", ["\udcff.jpg"], "Find it")
    str(caught.value).encode()
