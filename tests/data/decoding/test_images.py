"""Images decode from files, archives and memory; every broken one is named with its reason."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from e2vpt.data.decoding.images import ImageFile, ImageInMemory, decode, verify_images
from e2vpt.errors import DataError, UnreadableImages


def _bytes(format: str = "PNG", size: tuple[int, int] = (40, 30)) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format)
    return file.getvalue()


def _file(path: Path, data: bytes) -> ImageFile:
    path.write_bytes(data)
    return ImageFile(name=path.name, path=path)


def test_reads_a_range_of_an_archive_and_survives_pickling(tmp_path: Path) -> None:
    data = _bytes()
    archive = tmp_path / "archive"
    archive.write_bytes(b"before" + data + b"after")
    image = ImageFile(name="x", path=archive, offset=6, size=len(data))
    opened = pickle.loads(pickle.dumps(image)).open()
    assert np.array_equal(np.asarray(opened), np.asarray(decode(data, "x")))
    assert opened.size == (40, 30) and opened.mode == "RGB"


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM"])
def test_common_formats(format: str) -> None:
    assert decode(_bytes(format), "x").size == (40, 30)


def test_every_broken_image_is_named_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, jpeg, png = _bytes("PNG"), _bytes("JPEG"), _bytes("PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nowhere")
    images = [
        _file(tmp_path / "good.png", good),
        _file(tmp_path / "empty.png", b""),
        _file(tmp_path / "text.jpg", b"this is no image"),
        _file(tmp_path / "cut.jpg", jpeg[: len(jpeg) // 2]),
        _file(tmp_path / "cut.png", png[: len(png) // 2]),
        _file(tmp_path / "bomb.png", _bytes(size=(200, 200))),
        _file(tmp_path / "script.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        ImageFile(name="gone.png", path=tmp_path / "gone.png"),
        ImageFile(name="folder.jpg", path=tmp_path / "folder.jpg"),
        ImageFile(name="link.jpg", path=tmp_path / "link.jpg"),
        ImageFile(name="past.png", path=tmp_path / "good.png", size=len(good) + 1),
    ]
    calls: list[tuple[int, int]] = []
    with pytest.raises(UnreadableImages) as caught:
        verify_images(images, lambda done, total: calls.append((done, total)))
    assert list(caught.value.problems) == [image.name for image in images[1:]]
    for name, reason in {
        "empty.png": "0 bytes",
        "text.jpg": "not an image",
        "cut.jpg": "truncated",
        "cut.png": "truncated",
        "bomb.png": "decompression bomb",
        "script.jpg": "not an image",
        "gone.png": "missing",
        "folder.jpg": "not a file",
        "link.jpg": "broken link",
        "past.png": "ends inside this image",
    }.items():
        assert reason in caught.value.problems[name], (name, caught.value.problems[name])
        assert name in str(caught.value)
    assert calls == [(done, len(images)) for done in range(1, len(images) + 1)]


def test_unreadable_is_a_data_error_and_good_images_pass() -> None:
    image = ImageInMemory(name="mine", pixels=np.full((4, 4), -1))
    with pytest.raises(DataError, match="mine"):
        image.open()
    verify_images([ImageInMemory(name="mine", pixels=Image.new("L", (4, 4)))])


def test_an_interrupt_ends_verification_at_once(tmp_path: Path) -> None:
    images = [_file(tmp_path / f"{i}.png", _bytes()) for i in range(20)]
    calls: list[tuple[int, int]] = []

    def interrupt(done: int, total: int) -> None:
        calls.append((done, total))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify_images(images, interrupt)
    assert calls == [(1, 20)]


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    sparse = tmp_path / "sparse.png"
    with sparse.open("wb") as file:
        file.truncate(20 * 2**30)
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    for path, reason in {
        sparse: "21,474,836,480 bytes, too large",
        pipe: "not a file",
        Path("/dev/zero"): "not a file",
        tmp_path / ("x" * 300 + ".png"): "too long",
        tmp_path / "nul\0.png": "missing|null",
    }.items():
        with pytest.raises(UnreadableImages, match=reason):
            ImageFile(name="it", path=path).open()
    inside = ImageFile(name="it", path=sparse, offset=512, size=10 * 2**30)
    with pytest.raises(UnreadableImages, match="too large"):
        inside.open()


def test_pixels_are_counted_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    header = struct.pack(">IIBBBBB", 13_000, 13_000, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", zlib.compress(b""))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("decoded"))
    with pytest.raises(UnreadableImages, match=r"decompression bomb.*89,?478,?485"):
        decode(png, "x")


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_long_texts_do_not_refuse_a_png(kind: bytes) -> None:
    good = _bytes()
    packed = zlib.compress(bytes(3 * 2**20))
    data = b"k\0\1\0\0\0" + packed if kind == b"iTXt" else b"k\0\0" + packed
    at = 8 + 25  # After the signature and IHDR.
    png = good[:at] + _png_chunk(kind, data) + good[at:]
    assert np.array_equal(np.asarray(decode(png, "x")), np.asarray(decode(good, "x")))


def test_photos_that_must_be_converted_say_so() -> None:
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    for name, data, reason in (
        ("IMG_1.HEIC", heic, "HEIC photo; convert it to JPEG"),
        ("renamed.jpg", heic, "HEIC photo"),
        ("DSC_1.NEF", _bytes("TIFF"), "raw file; develop it"),
    ):
        with pytest.raises(UnreadableImages, match=reason):
            decode(data, name)


def test_as_stored_a_photo_is_not_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    image = ImageFile(name="a.jpg", path=tmp_path / "a.jpg")
    assert (image.open().size, image.open(as_stored=True).size) == ((20, 30), (30, 20))
    with Image.open(tmp_path / "a.jpg") as opened:
        opened.load()
    held = ImageInMemory(name="a.jpg", pixels=opened)
    assert (held.open().size, held.open(as_stored=True).size) == ((20, 30), (30, 20))
