"""A floor in perspective with boxes on it: how far away is the nearest one?"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from scripts.dev_tasks.backgrounds import OVERSAMPLING, SIZE, Colour, colour, finished, textured

NEAREST = tuple(round(2.6 * 1.32**i, 1) for i in range(7))  # edges between the classes, in metres
FARTHEST = 24.0  # of any box, in metres
EYE = 1.5  # height of the camera above the floor, in metres
FOCAL = 0.9 * SIZE * OVERSAMPLING  # in pixels


def darker(of: Colour, by: float) -> Colour:
    return int(of[0] * by), int(of[1] * by), int(of[2] * by)


def floor(rng: np.random.Generator, horizon: float) -> Image.Image:
    """A chequered floor up to the horizon (a row, in pixels), and a textured wall above it."""
    size = SIZE * OVERSAMPLING
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    below = rows > horizon + 1
    depth = FOCAL * EYE / np.maximum(rows - horizon, 1)
    across = (columns - size / 2) * depth / FOCAL
    tile, shift = rng.uniform(0.5, 2), rng.uniform(0, 4, 2)
    chequers = (np.floor(across / tile + shift[0]) + np.floor(depth / tile + shift[1])) % 2
    haze = np.minimum(depth / FARTHEST, 1)  # far tiles are finer than pixels
    ground, sky = textured(rng, size), textured(rng, size)
    contrast = rng.uniform(0.5, 0.85)
    ground = ground * (1 - (1 - contrast) * (chequers * (1 - haze) + 0.5 * haze))[..., None]
    return Image.fromarray(np.where(below[..., None], ground, sky).clip(0, 255).astype(np.uint8))


def box(
    rng: np.random.Generator, pen: ImageDraw.ImageDraw, horizon: float, metres: float, left: float
) -> None:
    """A box whose front stands `metres` away, its left edge `left` metres off the middle."""
    wide, tall, deep = rng.uniform(0.6, 1.6), rng.uniform(0.4, 1.3), rng.uniform(0.3, 1)
    paint = colour(rng)

    def seen(x: float, height: float, away: float) -> tuple[float, float]:
        return SIZE * OVERSAMPLING / 2 + FOCAL * x / away, horizon + FOCAL * (EYE - height) / away

    right, back = left + wide, metres + deep
    side = right if right < 0 else left  # the flank that faces the middle
    if left > 0 or right < 0:
        flank = [seen(side, 0, metres), seen(side, 0, back), seen(side, tall, back), seen(side, tall, metres)]
        pen.polygon(flank, fill=darker(paint, 0.5))
    lid = [seen(x, tall, away) for x, away in [(left, metres), (right, metres), (right, back), (left, back)]]
    pen.polygon(lid, fill=darker(paint, 0.8))
    front = [
        seen(left, 0, metres),
        seen(right, 0, metres),
        seen(right, tall, metres),
        seen(left, tall, metres),
    ]
    pen.polygon(front, fill=paint)


def distance(rng: np.random.Generator, label: int) -> Image.Image:
    """Three to five boxes of any size; the label is the range of NEAREST that the nearest one stands in."""
    horizon = rng.uniform(0.3, 0.45) * SIZE * OVERSAMPLING
    image = floor(rng, horizon)
    pen = ImageDraw.Draw(image)
    nearest = rng.uniform(NEAREST[label], NEAREST[label + 1])
    others = rng.uniform(1.3 * nearest, FARTHEST, rng.integers(2, 5))
    for metres in [*sorted(others, reverse=True), nearest]:
        half = 0.5 * SIZE * OVERSAMPLING * metres / FOCAL
        box(rng, pen, horizon, metres, rng.uniform(-half, max(half - 1.6, -half + 0.1)))
    return finished(rng, image)
