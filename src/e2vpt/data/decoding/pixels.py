"""Any pixel format becomes 8-bit RGB, the way a person sees the image."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image, ImageOps

Array = npt.NDArray[Any]
_WIDE_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_BAND = 2**22


def to_rgb(image: Image.Image, as_stored: bool = False) -> Image.Image:
    """A new RGB image.

    EXIF orientation is applied. Transparency is laid over white: dropping the alpha channel would show
    whatever colour the transparent pixels happen to hold. 16-bit grey is scaled to 8 bits, not clipped.
    With `as_stored`, as TensorFlow decodes, orientation is ignored and the alpha channel is dropped.

    Raises:
        ValueError: pixels whose range is unknown (32-bit integers above 65535, floats outside [0, 1]).
    """
    upright = image if as_stored else _upright(image)
    if upright.mode == "RGB" and not upright.has_transparency_data:
        return upright if upright is not image else image.copy()
    whole = Image.new("RGB", upright.size)
    # In bands, as some conversions take many bytes a pixel.
    rows = max(1, _BAND // max(1, upright.width))
    for top in range(0, upright.height, rows):
        bottom = min(top + rows, upright.height)
        band = upright.crop((0, top, upright.width, bottom))
        whole.paste(_band_to_rgb(band, as_stored), (0, top))
    return whole


def turn_upright(image: Image.Image) -> None:
    """Apply EXIF orientation to the image itself, without keeping the pixels as they were."""
    with contextlib.suppress(Exception):  # See `_upright`.
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            ImageOps.exif_transpose(image, in_place=True)


def _band_to_rgb(image: Image.Image, as_stored: bool) -> Image.Image:
    if image.mode in _WIDE_MODES:
        wide, transparent = np.asarray(image), image.info.get("transparency")
        image = Image.fromarray(_grey_to_bytes(wide))
        if transparent is not None:  # The one grey that a PNG of 16 bits calls transparent.
            image.putalpha(Image.fromarray(np.where(wide == transparent, 0, 255).astype(np.uint8)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if not as_stored:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def array_to_rgb(value: Any, as_stored: bool = False) -> Image.Image:
    """An array [H, W] or [H, W, C], or a tensor [C, H, W] or [H, W], as an RGB image; C is 1, 3 or 4.

    Integers are 0 to 255 (uint16: 0 to 65535), floats 0 to 1.

    Raises:
        ValueError: another shape or range, for instance pixels that were already normalised.
    """
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
        value = np.moveaxis(value, 0, -1) if value.ndim == 3 else value
    pixels = _to_bytes(np.asarray(value))
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if 0 in pixels.shape or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))):
        shape = list(np.shape(value))
        raise ValueError(f"shape {shape}; expected [H, W] or [H, W, C] with 1, 3 or 4 channels")
    return to_rgb(Image.fromarray(np.ascontiguousarray(pixels)), as_stored)


def _upright(image: Image.Image) -> Image.Image:
    try:
        if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
            return image
        return ImageOps.exif_transpose(image)
    except (
        Exception
    ):  # Broken metadata raises almost anything; the pixels are whole, so the image is still good.
        return image


def _grey_to_bytes(pixels: Array) -> Array:
    """Pillow's wide grey modes: "I" holds 16-bit values in 32 bits."""
    if pixels.dtype.kind == "i":
        low, high = pixels.min(), pixels.max()
        if low < 0 or high > 65535:
            raise ValueError(f"integer pixels from {low} to {high}; expected 0 to 65535")
        pixels = pixels.astype(np.uint16)
    return _to_bytes(pixels)


def _to_bytes(pixels: Array) -> Array:
    if pixels.dtype == np.uint8 or pixels.size == 0:
        return pixels
    if pixels.dtype.kind not in "buif":
        raise ValueError(f"pixels of type {pixels.dtype}; expected integers or floats")
    top = 65535 if pixels.dtype.kind == "u" and pixels.dtype.itemsize == 2 else 255
    top = 1 if pixels.dtype.kind in "bf" else top
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= top):
        raise ValueError(
            f"{pixels.dtype} pixels from {low:g} to {high:g}; expected 0 to {top}, not normalised"
        )
    return np.asarray(np.rint(pixels.astype(np.float32) * (255 / top)), dtype=np.uint8)
