"""What an image costs is known before it is decoded, and too much is refused."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from e2vpt.data.decoding.cost import decoding_cost
from e2vpt.data.decoding.images import decode
from e2vpt.errors import UnreadableImages


def _saved(format: str, mode: str = "RGB", size: tuple[int, int] = (96, 80), **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, format, **options)
    return file.getvalue()


def _cost(data: bytes) -> int:
    """Without the share of the file's own bytes."""
    return decoding_cost(Image.open(io.BytesIO(data)), data) - len(data) // 6


@pytest.mark.parametrize(
    ("data", "weight"),
    [
        (_saved("PNG"), 1.0),
        (_saved("JPEG"), 1.0),
        (_saved("JPEG", progressive=True), 1.25),
        (_saved("JPEG", "CMYK", progressive=True), 1.6),
        (_saved("WEBP"), 1.5),
        (_saved("TIFF", "F"), 1.2),
        (_saved("TIFF", "CMYK"), 1.25),
        (_saved("PNG", "RGBA"), 1.5),
    ],
)
def test_formats_that_take_more_memory_weigh_more(data: bytes, weight: float) -> None:
    assert _cost(data) == round(96 * 80 * weight)


def test_of_narrow_images_the_table_of_rows_counts() -> None:
    assert _cost(_saved("PNG", size=(1, 1000))) == 3000
    assert _cost(_saved("PNG", size=(1000, 1))) == 1000


def test_a_refusal_says_what_the_pixels_count_as(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 96 * 100)
    assert decode(_saved("PNG"), "x").size == (96, 80)
    with pytest.raises(UnreadableImages, match=r"which count as 11,\d{3} in WEBP; at most 9,600"):
        decode(_saved("WEBP"), "x")


def test_scans_of_other_images_in_the_file_do_not_count() -> None:
    """A camera writes a thumbnail into the head, and further pictures behind the end."""
    thumbnail, data = _saved("JPEG", size=(8, 8)) * 120, _saved("JPEG", progressive=True)
    head = b"\xff\xe2" + (len(thumbnail[:60_000]) + 2).to_bytes(2, "big") + thumbnail[:60_000]
    assert _cost(data[:2] + head + data[2:] + data * 120) == _cost(data)


def test_a_jpeg_may_not_come_in_very_many_scans() -> None:
    """Each is a pass over all pixels and takes a few bytes: such files would be decoded for hours."""
    data = _saved("JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    many = data[:start] + data[start:-2] * 101 + data[-2:]
    assert decode(data, "x").size == decode(data[:start] + data[start:-2] * 20 + data[-2:], "x").size
    with pytest.raises(UnreadableImages, match=r"a JPEG of 1\d\d scans; at most 100"):
        decode(many, "x")
