"""Four tasks about where, which way, how many and how far, in the manner of VTAB's structured group."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from scripts.dev_tasks.backgrounds import OVERSAMPLING, SIZE, Colour, brightness_of, finished, scene, unlike
from scripts.dev_tasks.distance import NEAREST, distance

Point = tuple[float, float]


def polygon(centre: Point, radii: list[float], angle: float) -> list[Point]:
    """Corners at equal angles around the centre, the first at `angle` (radians), at the given radii."""
    step = 2 * math.pi / len(radii)
    return [
        (centre[0] + r * math.cos(angle + i * step), centre[1] + r * math.sin(angle + i * step))
        for i, r in enumerate(radii)
    ]


def apart(rng: np.random.Generator, taken: list[tuple[Point, float]], radius: float) -> Point:
    """A place for a disc of this radius that touches none of those taken, inside the image if it can."""
    while True:
        x, y = rng.uniform(radius, SIZE * OVERSAMPLING - radius, 2)
        if all(math.dist((x, y), centre) > radius + other + 6 for centre, other in taken):
            return float(x), float(y)


def shape(
    rng: np.random.Generator, pen: ImageDraw.ImageDraw, centre: Point, radius: float, fill: Colour
) -> None:
    """A disc, a triangle, a square or a hexagon, turned at random."""
    corners = int(rng.choice([0, 3, 4, 6]))
    if corners:
        pen.polygon(polygon(centre, [radius] * corners, rng.uniform(0, 2 * math.pi)), fill=fill)
    else:
        pen.circle(centre, radius, fill=fill)


def location(rng: np.random.Generator, label: int) -> Image.Image:
    """A star among other shapes; the label is its cell in a grid of three by three, row by row."""
    image = scene(rng, lines=2)
    pen, behind, cell = ImageDraw.Draw(image), brightness_of(image), SIZE * OVERSAMPLING / 3
    radius = rng.uniform(11, 15) * OVERSAMPLING
    x, y = (label % 3 + rng.uniform(0.1, 0.9)) * cell, (label // 3 + rng.uniform(0.1, 0.9)) * cell
    pen.polygon(polygon((x, y), [radius, 0.4 * radius] * 5, rng.uniform(0, 7)), fill=unlike(rng, behind))
    taken = [((x, y), radius)]
    for _ in range(rng.integers(1, 5)):
        size = rng.uniform(5, 10) * OVERSAMPLING
        taken.append((apart(rng, taken, size), size))
        shape(rng, pen, *taken[-1], unlike(rng, behind))
    return finished(rng, image)


def orientation(rng: np.random.Generator, label: int) -> Image.Image:
    """An arrow of any size and place; the label is the way it points, eight directions, 0 to the right."""
    image = scene(rng, lines=3)
    reach = rng.uniform(24, 42) * OVERSAMPLING
    angle = math.radians(45 * label + rng.uniform(-16, 16))
    x, y = rng.uniform(reach, SIZE * OVERSAMPLING - reach, 2)
    wide, neck = rng.uniform(0.3, 0.5) * reach, rng.uniform(0.08, 0.16) * reach
    joint = rng.uniform(-0.1, 0.4) * reach
    outline = [(reach, 0.0), (joint, wide), (joint, neck), (-reach, neck)]
    outline += [(along, -across) for along, across in reversed(outline[1:])]
    cos, sin = math.cos(angle), math.sin(angle)
    corners = [(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in outline]
    ImageDraw.Draw(image).polygon(corners, fill=unlike(rng, brightness_of(image)))
    return finished(rng, image)


def count(rng: np.random.Generator, label: int) -> Image.Image:
    """Two to nine filled shapes of any colour and size among empty rings; the label is how many, less two."""
    image = scene(rng, lines=6)
    pen, behind = ImageDraw.Draw(image), brightness_of(image)
    taken: list[tuple[Point, float]] = []
    for index in range(label + 2 + rng.integers(0, 5)):
        radius = rng.uniform(5, 11) * OVERSAMPLING
        taken.append((apart(rng, taken, radius), radius))
        if index < label + 2:
            shape(rng, pen, *taken[-1], unlike(rng, behind))
        else:
            pen.circle(*taken[-1], outline=unlike(rng, behind), width=2 * OVERSAMPLING)
    return finished(rng, image)


@dataclass(frozen=True)
class Drawn:
    name: str
    draw: Callable[[np.random.Generator, int], Image.Image]
    classes: tuple[str, ...]
    suffix: str = "jpg"


TASKS = (
    Drawn("location9", location, tuple(f"row{i // 3}-column{i % 3}" for i in range(9))),
    Drawn("orientation8", orientation, tuple(f"{45 * i:03d}-degrees" for i in range(8))),
    Drawn("count8", count, tuple(f"{i}-shapes" for i in range(2, 10))),
    Drawn("distance6", distance, tuple(f"{a:04.1f}-to-{b:04.1f}-metres" for a, b in pairwise(NEAREST))),
)


def images(task: Drawn, split: str, number: int, seed: int = 0) -> Iterator[tuple[str, Image.Image]]:
    """`number` images of a split with their classes, which take turns; each image has a seed of its own."""
    for index in range(number):
        rng = np.random.default_rng([seed, zlib.crc32(task.name.encode()), zlib.crc32(split.encode()), index])
        label = index % len(task.classes)
        yield task.classes[label], task.draw(rng, label)
