"""One image: copies of a shape over a plain or textured ground, with a label for each task."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from scripts.demo_backbone.shapes import SHAPES, Points, Stroke

SIDE, CANVAS = 32, 64
TEXTURES = ("plain", "gradient", "stripes", "checks", "spots", "grain")
TASKS = {"shape": len(SHAPES), "texture": len(TEXTURES), "tilt": 3, "ink": 4, "count": 4}
_STROKES = tuple(SHAPES.values())
_Y, _X = np.mgrid[0:SIDE, 0:SIDE] / SIDE - 0.5


def _texture(kind: str, rng: np.random.Generator) -> Points:
    """A SIDE x SIDE pattern in [-1, 1]."""
    angle, frequency = rng.uniform(0, np.pi), rng.uniform(3, 9)
    u = _X * np.cos(angle) + _Y * np.sin(angle)
    v = _Y * np.cos(angle) - _X * np.sin(angle)
    wave_u, wave_v = np.sin(2 * np.pi * frequency * u), np.sin(2 * np.pi * frequency * v)
    pattern: Points = np.zeros((SIDE, SIDE))
    if kind == "gradient":
        pattern = 2 * u
    elif kind == "stripes":
        pattern = wave_u
    elif kind == "checks":
        pattern = np.sign(wave_u * wave_v)
    elif kind == "spots":
        pattern = np.maximum(wave_u * wave_v, 0) * 2 - 1
    elif kind == "grain":
        pattern = rng.uniform(-1, 1, (SIDE // 2, SIDE // 2)).repeat(2, 0).repeat(2, 1)
    return pattern


def _mask(strokes: list[Stroke], ink: int, tilt: int, count: int, rng: np.random.Generator) -> Points:
    """Coverage in [0, 1] of `count` copies drawn with one pen."""
    image = Image.new("L", (CANVAS, CANVAS))
    draw = ImageDraw.Draw(image)
    size = rng.uniform(0.28, 0.44) * CANVAS if count == 1 else rng.uniform(0.15, 0.22) * CANVAS
    width = max(2, round((0.09, 0.18, 0.3, 0.1)[ink] * size * rng.uniform(0.85, 1.2)))
    for cell in rng.permutation(4)[:count]:
        angle = 0.25 * (tilt - 1) + rng.uniform(-0.125, 0.125)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        stretch = np.array([[rng.uniform(0.6, 1.0), 0], [rng.uniform(-0.2, 0.2), rng.uniform(0.75, 1.0)]])
        room = CANVAS * 0.5 - size if count == 1 else CANVAS * 0.25 - size
        cells = np.array([0.5, 0.5]) if count == 1 else np.array([cell % 2, cell // 2]) / 2 + 0.25
        centre = cells * CANVAS + rng.uniform(-1, 1, 2) * max(room, 2.0)
        for points, closed in strokes:
            bow = points[:, ::-1] ** 2 * rng.normal(0, 0.1, 2) + rng.normal(0, 0.06, 2)
            placed = ((points + bow) @ stretch @ turn) * size + centre
            xy = [(float(x), float(y)) for x, y in placed]
            if closed and ink == 3:
                draw.polygon(xy, fill=255)
            else:
                draw.line(xy + xy[:2] if closed else xy, fill=255, width=width, joint="curve")
    if rng.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 3.0)))
    return np.asarray(image.reduce(CANVAS // SIDE), dtype=np.float64) / 255


def draw_image(seed: int, index: int) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """Image `index` of a seed, (height, width, RGB and the shape's coverage), with a label per task."""
    rng = np.random.default_rng([seed, index])
    shape = index % len(SHAPES)
    tilt, ink = int(rng.integers(3)), int(rng.integers(4))
    strokes = _STROKES[shape]
    if ink == 3 and not any(closed for _, closed in strokes):
        ink = int(rng.integers(3))
    count = 1 if rng.random() < 0.9 else int(rng.integers(2, 5))
    grey, texture = rng.random() < 0.5, int(rng.choice(6, p=(0.6, 0.08, 0.08, 0.08, 0.08, 0.08)))
    back, front = rng.uniform(0, 1, 3), rng.uniform(0, 1, 3)
    while abs(front.mean() - back.mean()) < 0.35:
        back, front = rng.uniform(0, 1, 3), rng.uniform(0, 1, 3)
    if grey:
        back, front = np.full(3, back.mean()), np.full(3, front.mean())
    if (front.mean() < back.mean()) == (rng.random() < 0.75):  # mostly bright on dark
        back, front = front, back
    strength = abs(front.mean() - back.mean()) * rng.uniform(0.1, 0.35)
    ground = back + _texture(TEXTURES[texture], rng)[..., None] * strength
    cover = _mask(strokes, ink, tilt, count, rng)[..., None]
    pixels = ground * (1 - cover) + front * cover + rng.normal(0, rng.uniform(0, 0.06), (SIDE, SIDE, 1))
    image = (np.clip(np.concatenate((pixels, cover), 2), 0, 1) * 255).round().astype(np.uint8)
    return image, [shape, texture, tilt, ink, count - 1]


def draw_set(count: int, seed: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """`count` images, whose shapes take turns, and their labels (count, tasks)."""
    drawn = [draw_image(seed, index) for index in range(count)]
    return np.stack([image for image, _ in drawn]), np.array([labels for _, labels in drawn], dtype=np.int64)
