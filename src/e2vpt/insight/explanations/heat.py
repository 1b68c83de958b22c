"""Values over a picture: colours for the eye, words for those who do not see it."""

from __future__ import annotations

import importlib
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from e2vpt.errors import needs

Pixels = NDArray[np.float32]
SHOWN_SIDE = 224
"""Pixels of the shorter side of a picture on a page; smaller ones are enlarged."""


def as_picture(pixels: Pixels) -> Image.Image:
    """[H, W, 3] of 0 to 1 as an image, enlarged where it is small."""
    image = Image.fromarray((pixels * 255).round().astype(np.uint8))
    factor = max(1.0, SHOWN_SIDE / min(image.size))
    width, height = (round(side * factor) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def over_picture(pixels: Pixels, values: Pixels) -> Image.Image:
    """Values [h, w] of zero and above over the grey picture [H, W, 3]: dark low, bright high."""
    grey, scaled = _grey(pixels), _scaled(np.maximum(values, 0), pixels)
    colours = matplotlib_module().colormaps["inferno"](scaled)[..., :3]
    return as_picture((0.35 * grey + 0.65 * colours).astype(np.float32))


def signed_over_picture(pixels: Pixels, values: Pixels) -> Image.Image:
    """Signed values [h, w] over the grey picture: red above zero, blue below."""
    grey, strength = _grey(pixels), _scaled(np.abs(_pooled(values)), pixels)[..., None]
    positive = _resized(_pooled(values), pixels)[..., None] > 0
    colours = np.where(positive, np.array([0.85, 0.10, 0.10]), np.array([0.10, 0.30, 0.90]))
    faded = 0.5 + 0.5 * grey
    return as_picture((faded * (1 - strength) + colours * strength).astype(np.float32))


def _pooled(values: Pixels) -> Pixels:
    """Means of 4 by 4 pixels: single ones are noise to the eye."""
    height, width = (max(1, side // 4) for side in values.shape)
    image = Image.fromarray(values.astype(np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BOX))


def _grey(pixels: Pixels) -> Pixels:
    return np.repeat(pixels.mean(-1, keepdims=True), 3, axis=-1)


def _scaled(values: Pixels, pixels: Pixels) -> Pixels:
    """Of zero and above, resized to the picture, 0 to 1; the largest hundredth is all 1."""
    resized = np.maximum(_resized(values, pixels), 0)
    low = resized.min()
    most = max(float(np.quantile(resized, 0.99) - low), 1e-12)
    scaled: Pixels = ((resized - low) / most).clip(0, 1)
    return scaled


def _resized(values: Pixels, pixels: Pixels) -> Pixels:
    height, width = pixels.shape[:2]
    image = Image.fromarray(values.astype(np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def place_of(values: Pixels) -> str:
    """Where the largest of the values [h, w] lies, in words: "the upper left", "the middle"."""
    row, column = np.unravel_index(int(_smooth(values).argmax()), values.shape)
    across = ("left", "", "right")[int(3 * column / values.shape[1])]
    down = ("upper", "", "lower")[int(3 * row / values.shape[0])]
    if not (across or down):
        return "the middle"
    return f"the {down} {across}" if across and down else f"the {across or down} part"


def _smooth(values: Pixels) -> Pixels:
    """One step of a mean over neighbours, so that a lone pixel does not speak for the picture."""
    padded = np.pad(values, 1, mode="edge")
    height, width = values.shape
    shifted = [padded[i : i + height, j : j + width] for i in range(3) for j in range(3)]
    means: Pixels = np.mean(shifted, axis=0)
    return means


def matplotlib_module() -> Any:
    """matplotlib.

    Raises:
        MissingExtra: it is not installed.
    """
    with needs("explain", "Pictures need Matplotlib"):
        return importlib.import_module("matplotlib")


def new_figure(width: float, height: float) -> Any:
    """A Matplotlib figure of inches that needs no display, its layout its own."""
    matplotlib_module()
    return importlib.import_module("matplotlib.figure").Figure((width, height), layout="constrained")


def as_png(figure: Any) -> bytes:
    """A figure as a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=130)
    return file.getvalue()
