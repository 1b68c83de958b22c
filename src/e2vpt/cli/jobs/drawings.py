"""The demo's images, drawn here: one small shape in one of sixteen places; the class is the place."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from e2vpt.files.atomic import make_folder, write_atomic

GRID = 4
SIDE = 32
"""Pixels; what the demo's backbone takes."""
_SPACING, _JITTER, _ZOOM = 7.0, 2.0, 8
Outline = NDArray[np.float64]


def _star(points: int, inner: float) -> Outline:
    """A star's corners [n, 2] on the unit circle and on a circle of radius `inner`."""
    angle = np.pi * np.arange(2 * points) / points
    radius = np.where(np.arange(2 * points) % 2 == 0, 1.0, inner)[:, None]
    return np.stack((np.sin(angle), -np.cos(angle)), 1) * radius


SHAPES: Mapping[str, Outline] = {
    "disc": _star(24, 1.0),
    "triangle": _star(3, 0.5),
    "square": _star(4, 0.5**0.5),
    "star": _star(5, 0.4),
    "cross": _star(4, 0.3),
    "bar": np.array([(-1.0, -0.35), (1.0, -0.35), (1.0, 0.35), (-1.0, 0.35)]),
}


def place_names() -> list[str]:
    """The classes, row by row."""
    return [f"row-{row}-column-{column}" for row in range(1, GRID + 1) for column in range(1, GRID + 1)]


def write_drawings(folder: Path, per_place: Mapping[str, int]) -> Path:
    """Write `<split>/<place>/<number>.png`, `per_place[split]` images of each place; existing files stay."""
    for split_number, (split, num_images) in enumerate(per_place.items()):
        for place, name in enumerate(place_names()):
            make_folder(folder / split / name)
            for number in range(num_images):
                path = folder / split / name / f"{number:03d}.png"
                if not path.exists():
                    rng = np.random.default_rng([split_number, place, number])
                    write_atomic(path, _png(draw(place, rng)))
    return folder


def draw(place: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """An RGB image [SIDE, SIDE, 3] with one shape of any kind, size, rotation and colour in a place.

    Centres of neighbouring places are 7 pixels apart and a shape is moved by at most 2 from its centre, so
    that no image lies between two places.
    """
    row, column = divmod(place, GRID)
    first = (SIDE - _SPACING * (GRID - 1)) / 2
    centre = first + _SPACING * np.array([column, row]) + rng.uniform(-_JITTER, _JITTER, 2)
    cover = _cover(str(rng.choice(list(SHAPES))), centre, rng.uniform(2.5, 4.5), rng)[..., None]
    ground, ink = _two_colours(rng)
    noise = rng.normal(0, rng.uniform(0, 0.05), (SIDE, SIDE, 1))
    pixels = ground * (1 - cover) + ink * cover + noise
    return np.asarray((np.clip(pixels, 0, 1) * 255).round(), dtype=np.uint8)


def _cover(
    shape: str, centre: NDArray[np.float64], radius: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """The share of each pixel that the shape covers, [SIDE, SIDE]."""
    angle = rng.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners = (SHAPES[shape] @ rotation * radius + centre) * _ZOOM
    canvas = Image.new("L", (SIDE * _ZOOM, SIDE * _ZOOM))
    ImageDraw.Draw(canvas).polygon([(float(x), float(y)) for x, y in corners], fill=255)
    return np.asarray(canvas.reduce(_ZOOM), dtype=np.float64) / 255


def _two_colours(rng: np.random.Generator) -> NDArray[np.float64]:
    """Ground and shape, clearly lighter or darker than each other: [2, 3] in 0 to 1."""
    while True:
        colours = rng.uniform(0, 1, (2, 3))
        if abs(colours[0].mean() - colours[1].mean()) > 0.35:
            return colours


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
