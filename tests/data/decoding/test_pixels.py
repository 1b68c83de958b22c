"""Every pixel format arrives as the RGB a person sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import e2vpt.data.decoding.pixels
from e2vpt.data.decoding.pixels import array_to_rgb, to_rgb


def _pixel(image: Image.Image) -> tuple[int, ...]:
    assert image.mode == "RGB"
    value = image.getpixel((0, 0))
    assert isinstance(value, tuple)
    return tuple(map(int, value))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"])
def test_every_mode_keeps_white_white(mode: str) -> None:
    base = Image.new("RGB", (3, 2), "white")
    image = base.convert("P").convert("PA") if mode == "PA" else base.convert(mode)
    assert _pixel(to_rgb(image)) == (255, 255, 255)


def test_transparent_pixels_show_white_not_their_hidden_colour() -> None:
    assert _pixel(to_rgb(Image.new("RGBA", (2, 2), (10, 20, 30, 0)))) == (255, 255, 255)
    assert _pixel(to_rgb(Image.new("RGBA", (2, 2), (10, 20, 30, 255)))) == (10, 20, 30)
    palette = Image.new("P", (2, 2), 0)
    palette.info["transparency"] = b"\x00"
    assert _pixel(to_rgb(palette)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_as_stored_an_alpha_channel_is_dropped(mode: str) -> None:
    """As TensorFlow does it with channels=3."""
    image = Image.new("RGBA", (2, 2), (40, 40, 40, 0)).convert(mode)
    if mode in ("P", "RGB"):
        image.info["transparency"] = b"\x00" * 256 if mode == "P" else (40, 40, 40)
    assert _pixel(to_rgb(image)) == (255, 255, 255)
    assert _pixel(to_rgb(image, as_stored=True)) == (40, 40, 40)
    assert _pixel(array_to_rgb(np.asarray(image.convert("RGBA")), as_stored=True)) == (40, 40, 40)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_sixteen_bit_grey_is_scaled(dtype: Any) -> None:
    image = Image.fromarray(np.full((2, 2), 128 * 257, dtype=dtype))
    assert image.mode in ("I;16", "I")
    assert _pixel(to_rgb(image)) == (128, 128, 128)


@pytest.mark.parametrize("transparent", [None, 30_000])
def test_the_grey_that_sixteen_bits_call_transparent_is_white(transparent: int | None) -> None:
    image = Image.fromarray(np.full((2, 2), 30_000, dtype=np.uint16))
    if transparent is not None:
        image.info["transparency"] = transparent
    assert _pixel(to_rgb(image)) == ((117,) * 3 if transparent is None else (255,) * 3)


def test_float_pixels_are_zero_to_one() -> None:
    assert _pixel(to_rgb(Image.fromarray(np.full((2, 2), 0.5, dtype=np.float32)))) == (128, 128, 128)


@pytest.mark.parametrize("value", [-1.0, 300.0, float("nan")])
def test_float_pixels_of_unknown_range_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="expected 0 to 1"):
        to_rgb(Image.fromarray(np.full((2, 2), value, dtype=np.float32)))


def test_a_large_image_is_whole_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Converted seven rows at a time, with one row in the last band."""
    monkeypatch.setattr(e2vpt.data.decoding.pixels, "_BAND", 40 * 7)
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    found = to_rgb(Image.fromarray(pixels))
    assert found.mode == "RGB" and np.array_equal(np.asarray(found), pixels[..., :3])


def test_exif_orientation_is_applied() -> None:
    image = Image.new("RGB", (4, 2), "red")
    image.getexif()[0x0112] = 6
    assert to_rgb(image).size == (2, 4)


@pytest.mark.parametrize(
    "value",
    [
        np.full((4, 5), 128, dtype=np.uint8),
        np.full((4, 5, 1), 128, dtype=np.int64),
        np.full((4, 5, 3), 128 / 255, dtype=np.float64),
        np.full((4, 5, 3), 128 * 257, dtype=np.uint16),
        torch.full((1, 4, 5), 128 / 255),
        torch.full((3, 4, 5), 128, dtype=torch.uint8),
    ],
    ids=["HW", "HW1", "float", "uint16", "1HW", "tensor"],
)
def test_arrays_and_tensors(value: Any) -> None:
    image = array_to_rgb(value)
    assert image.size == (5, 4)
    assert _pixel(image) == (128, 128, 128)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((4, 5, 2), dtype=np.uint8), r"shape \[4, 5, 2\]"),
        (np.zeros((0, 5, 3), dtype=np.uint8), "shape"),
        (torch.full((3, 4, 4), -2.1), "not normalised"),
        (np.full((4, 4), 256), "expected 0 to 255"),
        (np.array([["a", "b"]]), "expected integers or floats"),
    ],
)
def test_other_arrays_are_refused(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        array_to_rgb(value)
