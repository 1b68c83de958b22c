"""Formats and sizes of stored images come from their headers, wherever they lie."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from e2vpt.benchmarks.suite.headers import (
    LOOKED_AT,
    Header,
    formats_of,
    read_headers,
    unlike_official,
    unreadable,
)
from e2vpt.benchmarks.vtab.tasks import VTAB
from e2vpt.benchmarks.vtab.tfds import BinaryImage
from e2vpt.data.decoding.images import ImageFile, ImageSource
from e2vpt.data.task import Split


def _bytes(format: str, size: tuple[int, int] = (32, 32)) -> bytes:
    file = io.BytesIO()
    Image.effect_noise(size, 50).save(file, format)
    return file.getvalue()


def _file(path: Path, data: bytes) -> ImageFile:
    path.write_bytes(data)
    return ImageFile(name=path.name, path=path)


def _split(*images: ImageSource) -> Split:
    return Split(images=images, labels=(0,) * len(images))


def _headers(*formats: str, size: tuple[int, int] = (32, 32)) -> list[Header]:
    image = ImageFile(name="one.png", path=Path("one.png"))
    return [Header(image=image, format=format, size=size) for format in formats]


def test_wherever_an_image_lies(tmp_path: Path) -> None:
    jpeg, png = _bytes("JPEG", (20, 10)), _bytes("PNG", (7, 9))
    shard = tmp_path / "shard"
    shard.write_bytes(b"before" + png + b"behind")
    inside = ImageFile(name="inside", path=shard, offset=6, size=len(png))
    found = read_headers(
        {
            "train": _split(_file(tmp_path / "a.jpg", jpeg), inside),
            "val": _split(BinaryImage(file=inside)),
        }
    )
    expected = [("JPEG", (20, 10)), ("PNG", (7, 9)), ("PNG", (7, 9))]
    assert [(header.format, header.size) for header in found] == expected
    assert formats_of(found) == "JPEG and PNG" and unreadable(found) == []


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_no_pixel_is_decoded(tmp_path: Path, format: str) -> None:
    whole = _bytes(format, (64, 48))
    cut = _file(tmp_path / "cut", whole[: len(whole) - 200])
    assert [(h.format, h.size) for h in read_headers({"train": _split(cut)})] == [(format, (64, 48))]


def test_large_splits_are_sampled_evenly(tmp_path: Path) -> None:
    one = _file(tmp_path / "one.png", _bytes("PNG", (2, 2)))
    images = [ImageFile(name=f"{i}", path=one.path) for i in range(2 * LOOKED_AT + 500)]
    found = read_headers({"train": _split(*images[:800]), "test": _split(*images)})
    assert [header.image for header in found] == images[:800] + images[::3]
    assert len(images[::3]) <= LOOKED_AT


def test_unreadable_images_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    good, bad = _file(tmp_path / "good.png", _bytes("PNG")), _file(tmp_path / "bad.png", b"no image")
    absent = ImageFile(name="absent.png", path=tmp_path / "absent.png")
    found = read_headers({"train": _split(good, bad), "test": _split(absent)})
    assert [header.format for header in found] == ["PNG", "", ""]
    (problem,) = unreadable(found)
    assert problem.startswith("2 of 3 images looked at, bad.png the first, are not readable (not an image in")
    assert "the file is missing" in unreadable(found[2:])[0]


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    places = [tmp_path / "pipe.png", tmp_path, Path("x" * 300)]
    found = read_headers({"test": _split(*(ImageFile(name=path.name, path=path) for path in places))})
    assert [header.format for header in found] == ["", "", ""]
    assert unreadable(found)[0].startswith("3 of 3 images looked at, pipe.png the first")


@pytest.mark.parametrize("name", ["cifar100", "svhn", "patch_camelyon", "kitti_distance", "clevr_count"])
def test_copies_that_lost_detail(name: str) -> None:
    found = unlike_official(name, _headers("PNG", "JPEG", "JPEG", "WEBP"))
    assert "3 of 4 images looked at, one.png the first, are JPEG and WEBP; the official ones" in found[0]
    assert not [problem for problem in unlike_official(name, _headers("PNG", "BMP")) if "lossless" in problem]


@pytest.mark.parametrize("name", ["eurosat", "dmlab", "resisc45", "sun397", "oxford_iiit_pet", "dtd"])
def test_what_was_jpeg_from_the_start(name: str) -> None:
    sizes = {"eurosat": (64, 64), "dmlab": (480, 360), "resisc45": (256, 256)}
    assert unlike_official(name, _headers("JPEG", "PNG", size=sizes.get(name, (7, 5)))) == []


@pytest.mark.parametrize(
    ("name", "size", "said"),
    [
        ("cifar100", (224, 224), "224 x 224 or another size; the official ones are 32 x 32"),
        ("dmlab", (360, 480), "360 x 480 or another size; the official ones are 480 x 360"),
        ("smallnorb_elevation", (48, 48), "the official ones are 96 x 96"),
    ],
)
def test_resized_copies(name: str, size: tuple[int, int], said: str) -> None:
    (problem,) = unlike_official(name, _headers("PNG", size=size))
    assert said in problem


def test_tasks_with_images_of_any_size() -> None:
    def differ(names: Sequence[str], size: tuple[int, int]) -> list[str]:
        return [name for name in names if unlike_official(name, _headers("PNG", size=size))]

    fixed = differ(list(VTAB), (1, 1))
    assert len(fixed) == 10 and not differ(list(set(VTAB) - set(fixed)), (640, 480))
    assert unlike_official("cifar100", _headers("", size=(0, 0))) == []
