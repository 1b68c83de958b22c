"""What is drawn: geometric shapes, and fixed random scribbles none of which looks like a digit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
Stroke = tuple[Points, bool]  # (points in [-1, 1] x [-1, 1], whether closed)


def _polar(radius: Callable[[Points], Points | float], turns: float = 1.0, steps: int = 48) -> Points:
    angle = np.linspace(0, 2 * np.pi * turns, steps)
    reach: Points = np.broadcast_to(radius(angle), angle.shape)[:, None]
    return np.stack((np.sin(angle), -np.cos(angle)), 1) * reach


def _polygon(corners: int, inner: float | None = None) -> Points:
    """A regular polygon; with `inner`, the star whose inner corners lie at that radius."""
    count = corners if inner is None else 2 * corners
    angle = 2 * np.pi * np.arange(count) / count
    radius = np.where(np.arange(count) % 2 == 0, 1.0, 1.0 if inner is None else inner)
    return np.stack((np.sin(angle), -np.cos(angle)), 1) * radius[:, None]


def _flower(petals: int) -> Points:
    return _polar(lambda angle: 0.65 + 0.35 * np.cos(petals * angle))


def _points(*flat: float) -> Points:
    return np.array(flat, dtype=np.float64).reshape(-1, 2)


def _lines(*segments: tuple[float, float, float, float]) -> list[Stroke]:
    return [(_points(*segment), False) for segment in segments]


def _dots(*centres: tuple[float, float]) -> list[Stroke]:
    return [(_polar(lambda _: 0.25, steps=10) + np.array(centre), True) for centre in centres]


def _geometric() -> dict[str, list[Stroke]]:
    wave = np.linspace(-1, 1, 40)
    closed = {
        **{f"polygon-{n}": _polygon(n) for n in (3, 4, 5, 6, 8)},
        **{f"star-{n}": _polygon(n, 0.42) for n in (3, 4, 5, 6, 8)},
        **{f"flower-{n}": _flower(n) for n in (3, 4, 5)},
        "square": _points(-0.8, -0.8, 0.8, -0.8, 0.8, 0.8, -0.8, 0.8),
        "rectangle": _points(-1, -0.45, 1, -0.45, 1, 0.45, -1, 0.45),
        "trapezoid": _points(-0.5, -0.6, 0.5, -0.6, 1, 0.6, -1, 0.6),
        "parallelogram": _points(-0.4, -0.5, 1, -0.5, 0.4, 0.5, -1, 0.5),
        "kite": _points(0, -0.6, 0.7, -0.1, 0, 1, -0.7, -0.1),
        "ring": _polar(lambda _: 0.9),
        "ellipse": _polar(lambda _: 1.0) * np.array([1, 0.5]),
        "half-disc": _polar(lambda _: 1.0, 0.5),
        "sector": np.concatenate((_points(0, 0), _polar(lambda _: 1.0, 0.75))),
        "crescent": np.concatenate((_polar(lambda _: 1.0, 0.5), _polar(lambda _: 1.0, 0.5)[::-1] * [0.4, 1])),
        "drop": _polar(lambda a: 0.35 + 0.65 * np.abs(np.cos(a / 2)) ** 6),
        "heart": _polar(lambda a: 0.5 + 0.5 * np.abs(np.sin(a / 2)) ** 0.5 - 0.1 * np.cos(2 * a)),
        "gear": _polar(lambda a: 0.8 + 0.2 * np.sign(np.sin(9 * a)), steps=96),
        "wedge": _points(-1, -0.7, 1, 0, -1, 0.7, -0.5, 0),
        "arrow": _points(0, -1, 0.8, -0.1, 0.3, -0.1, 0.3, 1, -0.3, 1, -0.3, -0.1, -0.8, -0.1),
        "bolt": _points(0.2, -1, -0.6, 0.2, 0, 0.2, -0.3, 1, 0.7, -0.3, 0.1, -0.3),
    }
    shapes = {name: [(points, True)] for name, points in closed.items()}
    shapes |= {
        "bar": _lines((0, -1, 0, 1)),
        "cross": _lines((-0.8, -0.8, 0.8, 0.8), (-0.8, 0.8, 0.8, -0.8)),
        "asterisk": _lines((0, -1, 0, 1), (-0.87, -0.5, 0.87, 0.5), (-0.87, 0.5, 0.87, -0.5)),
        "two-bars": _lines((-0.5, -1, -0.5, 1), (0.5, -1, 0.5, 1)),
        "three-bars": _lines((-0.8, -1, -0.8, 1), (0, -1, 0, 1), (0.8, -1, 0.8, 1)),
        "fan": _lines((0, 1, -0.9, -0.6), (0, 1, 0, -1), (0, 1, 0.9, -0.6)),
        "grid": _lines((-0.4, -1, -0.4, 1), (0.4, -1, 0.4, 1), (-1, -0.4, 1, -0.4), (-1, 0.4, 1, 0.4)),
        "chevron": [(_points(-0.9, 0.5, 0, -0.5, 0.9, 0.5), False)],
        "zigzag": [(_points(-1, 0.4, -0.6, -0.4, -0.2, 0.4, 0.2, -0.4, 0.6, 0.4, 1, -0.4), False)],
        "wave": [(np.stack((wave, 0.5 * np.sin(2.5 * np.pi * wave)), 1), False)],
        "arc": [(_polar(lambda _: 0.9, 0.35), False)],
        "open-ring": [(_polar(lambda _: 0.9, 0.7), False)],
        "spiral": [(_polar(lambda a: a / (5 * np.pi), 2.5, 80), False)],
        "concentric": [(_polar(lambda _: 1.0), True), (_polar(lambda _: 0.5), True)],
        "nested-squares": [(_polygon(4), True), (_polygon(4) * 0.5, True)],
        "two-dots": _dots((-0.6, 0), (0.6, 0)),
        "three-dots": _dots((0, -0.7), (-0.65, 0.5), (0.65, 0.5)),
        "four-dots": _dots((-0.6, -0.6), (0.6, -0.6), (-0.6, 0.6), (0.6, 0.6)),
        "five-dots": _dots((-0.7, -0.7), (0.7, -0.7), (0, 0), (-0.7, 0.7), (0.7, 0.7)),
    }
    return shapes


def _scribble(seed: int) -> list[Stroke]:
    """Two or three curved strokes, the same for a seed: a class of its own."""
    rng = np.random.default_rng([71, seed])
    strokes: list[Stroke] = []
    t = np.linspace(0, 1, 14)[:, None]
    last = rng.uniform(-0.9, 0.9, 2)
    for _ in range(int(rng.integers(2, 4))):
        start = last if rng.random() < 0.7 else rng.uniform(-0.9, 0.9, 2)
        end = rng.uniform(-0.9, 0.9, 2)
        while np.linalg.norm(end - start) < 0.7:
            end = rng.uniform(-0.9, 0.9, 2)
        bend = (start + end) / 2 + rng.choice([0.0, 1.0]) * rng.uniform(-1, 1, 2)
        strokes.append(((1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end, False))
        last = end
    every = np.concatenate([points for points, _ in strokes])
    low, high = every.min(0), every.max(0)
    return [((points - (low + high) / 2) * 1.9 / (high - low).max(), closed) for points, closed in strokes]


# What chance made look like a digit, found by eye.
# fmt: off
DIGIT_LIKE = {
    10, 20, 38, 39, 42, 43, 50, 51, 57, 63, 77, 78, 85, 86, 92, 100, 103, 109, 110, 120, 122, 126, 130,
    143, 149, 151, 153, 158, 166, 172,
}
# fmt: on
BAR_LIKE = {2, 61, 81, 89, 93, 99, 131, 157}
KEPT = [number for number in range(180) if number not in DIGIT_LIKE | BAR_LIKE]
SHAPES = _geometric() | {f"scribble-{number}": _scribble(number) for number in KEPT}
