"""Archives as data: .zip and .tar.gz hold what the folder holds; hostile and damaged ones are named."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from e2vpt.config import DataConfig
from e2vpt.data.sources import archives
from e2vpt.data.sources.archives import list_archive
from e2vpt.data.sources.load import load_task
from e2vpt.errors import DataError, UnreadableImages


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    folder = tmp_path / "pets"
    for number, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", (8, 8), (20 * i, 50 * number, 9)).save(folder / name / f"{i}.png")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._0.png").write_bytes(b"x")
    return folder


def _zip(folder: Path, archive: Path, kind: int = zipfile.ZIP_DEFLATED, top: str = "pets/") -> Path:
    with zipfile.ZipFile(archive, "w", kind) as opened:
        for path in sorted(folder.rglob("*.png")):
            opened.write(path, top + path.relative_to(folder).as_posix())
    return archive


def _tgz(folder: Path, archive: Path) -> Path:
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname="pets")
    return archive


@pytest.mark.parametrize("kind", ["stored.zip", "pets.zip", "pets.tar.gz", "pets.tgz", "really.tar"])
def test_an_archive_is_read_as_its_folder(pets: Path, tmp_path: Path, kind: str) -> None:
    archive = tmp_path / kind
    if kind.endswith(".zip"):
        _zip(pets, archive, zipfile.ZIP_STORED if kind == "stored.zip" else zipfile.ZIP_DEFLATED)
    else:
        _tgz(pets, archive)
    task, plain = load_task(archive), load_task(pets, DataConfig(), verify=False)
    assert task.classes == plain.classes and task.name == kind.split(".")[0]
    for which, split in plain.splits().items():
        same = task.splits()[which]
        assert same.labels == split.labels
        assert [image.open() for image in same.images] == [image.open() for image in split.images]
    assert all(image.name.startswith(f"{archive}:pets/") for image in task.train.images)


def test_windows_separators(pets: Path, tmp_path: Path) -> None:
    archive = tmp_path / "pets.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for path in sorted(pets.rglob("?.png")):
            opened.writestr("\\".join(path.relative_to(pets).parts), path.read_bytes())
    assert load_task(archive).classes == ("cat", "dog")


def test_damage_is_named(pets: Path, tmp_path: Path) -> None:
    whole = _zip(pets, tmp_path / "pets.zip").read_bytes()
    cut = tmp_path / "cut.zip"
    cut.write_bytes(whole[: len(whole) // 2])
    packed = _tgz(pets, tmp_path / "pets.tar.gz").read_bytes()
    short = tmp_path / "short.tar.gz"
    short.write_bytes(packed[: len(packed) // 2])
    for path in (cut, short):
        with pytest.raises(DataError, match=rf"{path.name} cannot be read as an archive: "):
            list_archive(path)
    broken = bytearray(whole)
    data = broken.index(b"pets/cat/0.png") + len("pets/cat/0.png")
    broken[data : data + 10] = b"\xff" * 10
    (tmp_path / "broken.zip").write_bytes(broken)
    with pytest.raises(UnreadableImages, match=r"1 unreadable image.*\n.*cat/0\.png: "):
        load_task(tmp_path / "broken.zip")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flag_bits": 1}, "is encrypted"),
        ({"external_attr": 0o120777 << 16}, "is a link or a device"),
        ({"compress_type": zipfile.ZIP_BZIP2}, "is compressed in a way other than deflate"),
    ],
)
def test_entries_that_cannot_be_read_in_place(tmp_path: Path, change: dict[str, int], message: str) -> None:
    entry = zipfile.ZipInfo("cat/0.png")
    entry.compress_type = change.get("compress_type", zipfile.ZIP_STORED)
    entry.external_attr = change.get("external_attr", 0)
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as opened:
        opened.writestr(entry, b"x")
    if "flag_bits" in change:
        data = bytearray((tmp_path / "pets.zip").read_bytes())
        data[data.index(b"PK\x01\x02") + 8] |= 1
        (tmp_path / "pets.zip").write_bytes(data)
    with pytest.raises(DataError, match=rf"cat/0\.png {message}.*Unpack the archive"):
        list_archive(tmp_path / "pets.zip")


def test_paths_out_of_the_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as opened:
        opened.writestr("../cat/0.png", b"x")
    with pytest.raises(DataError, match="leaves the archive"):
        list_archive(tmp_path / "pets.zip")


def test_bombs_are_bounded(pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("cat/0.png", bytes(2**28 + 1))
        opened.writestr("dog/0.png", b"x")
    (image, _) = list_archive(tmp_path / "bomb.zip").images().values()
    with pytest.raises(UnreadableImages, match="268,435,457 bytes, too large for an image"):
        image.open()
    monkeypatch.setattr(archives, "_ALWAYS_UNPACKED", 2**14)
    monkeypatch.setattr(archives, "_LARGEST_RATIO", 1)
    with pytest.raises(DataError, match=r"it unpacks to more than 16,384 bytes"):
        list_archive(_tgz(pets, tmp_path / "bomb.tar.gz"))
    monkeypatch.setattr(archives, "_LONGEST_DIRECTORY", 64)
    with pytest.raises(DataError, match="a table of contents of"):
        list_archive(_zip(pets, tmp_path / "many.zip"))


def test_more_than_the_archive_says_is_damage(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pets.zip", "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("cat/0.png", bytes(1000))
    data = bytearray((tmp_path / "pets.zip").read_bytes())
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = (10).to_bytes(4, "little")
    (tmp_path / "pets.zip").write_bytes(data)
    (image,) = list_archive(tmp_path / "pets.zip").images().values()
    with pytest.raises(UnreadableImages, match="it unpacks to other than 10 bytes"):
        image.open()


def test_the_temporary_copy_goes(pets: Path, tmp_path: Path) -> None:
    (image, *_) = list_archive(_tgz(pets, tmp_path / "pets.tgz")).images().values()
    assert image.path.exists()
    archives._remove(str(image.path), owner=-1)  # a forked process leaves it to its owner
    assert image.path.exists()
