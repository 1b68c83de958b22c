"""What lies behind a drawn object: a coloured texture with clutter, so that a linear head is not enough."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]

SIZE = 128  # side of every drawn image, in pixels
OVERSAMPLING = 3  # drawn this many times larger, then reduced: smooth edges


def noise(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    """Smooth noise of several scales.

    Returns:
        [size, size], between 0 and 1.
    """
    total = np.zeros((size, size), np.float32)
    roughness = rng.uniform(0.4, 0.8)
    for octave in range(1, 6):
        grid = rng.random((2**octave + 1, 2**octave + 1), dtype=np.float32)
        wave = Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC)
        total += roughness**octave * np.asarray(wave)
    total -= total.min()
    return total / np.float32(total.max())


def colour(rng: np.random.Generator) -> Colour:
    red, green, blue = rng.integers(0, 256, 3)
    return int(red), int(green), int(blue)


def brightness(of: Colour) -> float:
    return 0.3 * of[0] + 0.59 * of[1] + 0.11 * of[2]


def unlike(rng: np.random.Generator, behind: float) -> Colour:
    """A colour whose brightness (0 to 255) differs from that behind it by 60 or more."""
    while abs(brightness(found := colour(rng)) - behind) < 60:
        pass
    return found


def textured(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    """Two random colours mixed by noise, every other time with stripes.

    Returns:
        [size, size, 3], between 0 and 255.
    """
    mix = noise(rng, size)
    if rng.random() < 0.5:
        y, x = np.mgrid[:size, :size] / size
        angle, waves = rng.uniform(0, np.pi), rng.uniform(4, 14)
        stripes = np.sin(2 * np.pi * waves * (x * np.cos(angle) + y * np.sin(angle)) + 6 * mix)
        mix = 0.6 * mix + 0.2 * (stripes.astype(np.float32) + 1)
    first, second = np.array(colour(rng), np.float32), np.array(colour(rng), np.float32)
    return mix[..., None] * first + (1 - mix[..., None]) * second


def scene(rng: np.random.Generator, *, lines: int) -> Image.Image:
    """A texture with `lines` thin lines across it, OVERSAMPLING times SIZE pixels wide."""
    size = SIZE * OVERSAMPLING
    image = Image.fromarray(textured(rng, size).clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(lines):
        ends = [float(place) for place in rng.uniform(0, size, 4)]
        pen.line(ends, fill=colour(rng), width=int(rng.integers(2, 2 * OVERSAMPLING)))
    return image


def brightness_of(image: Image.Image) -> float:
    return float(np.asarray(image.convert("L")).mean())


def finished(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """Reduced to SIZE, with a little of a camera's noise."""
    small = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BOX), np.float32)
    grain = rng.normal(0, rng.uniform(2, 8), small.shape)
    return Image.fromarray((small + grain).clip(0, 255).astype(np.uint8))
