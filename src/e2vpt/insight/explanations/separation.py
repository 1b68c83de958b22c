"""How well classes lie apart: silhouette, and how often the nearest class centre is the right one.

In three geometries: directions of feature vectors (cosine), the Euclidean plane, and the hyperbolic plane as
the sheet x² + y² - z² = -1, z > 0, in which the distance of u and v is arcosh(-<u, v>), with
<u, v> = u_x v_x + u_y v_y - u_z v_z.

Shapes: n points, k coordinates, C classes.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from e2vpt.errors import DataError, needs

Geometry = Literal["cosine", "euclidean", "hyperbolic"]
Points = NDArray[np.float64]
Numbered = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Separation:
    """How well classes lie apart.

    Attributes:
        silhouette: -1 to 1, the mean of (b - a) / max(a, b): a is a point's mean distance to its own class,
            b to the closest other one.
        nearest_centroid: 0 to 1, how often the closest class centre is that of the point's own class. A point
            is not counted in its own centre, so that small classes are not flattered.
    """

    silhouette: float
    nearest_centroid: float


def separation(points: Points, labels: Numbered, geometry: Geometry) -> Separation:
    """Of points [n, k] with classes [n], each of at least two points; hyperbolic ones on the sheet [n, 3].

    Raises:
        DataError: fewer than two classes, or one with a single point.
    """
    _, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(counts) < 2 or counts.min() < 2:
        raise DataError("Class separation needs at least two classes with two images each.")
    distances = pairwise(points, geometry)
    return Separation(
        silhouette=float(metrics().silhouette_score(distances, numbers, metric="precomputed")),
        nearest_centroid=_nearest_centroid(points, numbers, counts, geometry),
    )


def pairwise(points: Points, geometry: Geometry) -> Points:
    """Distances of points [n, k] from each other, [n, n]; of directions, one minus the cosine."""
    distances: Points
    if geometry == "cosine":
        unit = points / np.linalg.norm(points, axis=1, keepdims=True)
        distances = 1 - unit @ unit.T
    elif geometry == "hyperbolic":
        distances = np.arccosh(np.maximum(-points @ (points * _LORENTZ).T, 1.0))
    else:
        distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    distances = np.maximum(distances, 0)
    np.fill_diagonal(distances, 0)
    return distances


_LORENTZ = np.array([1.0, 1.0, -1.0])


def _nearest_centroid(points: Points, numbers: Numbered, counts: Numbered, geometry: Geometry) -> float:
    if geometry == "cosine":
        points = points / np.linalg.norm(points, axis=1, keepdims=True)
    sums = np.zeros((len(counts), points.shape[1]))
    np.add.at(sums, numbers, points)
    to_centre = np.stack(
        [_to_centre(points, total[None], count, geometry) for total, count in zip(sums, counts, strict=True)],
        axis=1,
    )
    others = _to_centre(points, sums[numbers] - points, counts[numbers] - 1, geometry)
    to_centre[np.arange(len(points)), numbers] = others
    return float((to_centre.argmin(1) == numbers).mean())


def _to_centre(points: Points, sums: Points, counts: Any, geometry: Geometry) -> Points:
    """A number for each point that grows with its distance from the centre of points that add up to `sums`.

    Centres are the mean, the direction of the mean, and the sum scaled back to the sheet.
    """
    if geometry == "euclidean":
        distances: Points = np.linalg.norm(points - sums / np.reshape(counts, (-1, 1)), axis=1)
        return distances
    if geometry == "cosine":
        products = (points * sums).sum(1)
        length = np.linalg.norm(sums, axis=1)
    else:
        products = (points * sums * _LORENTZ).sum(1)
        length = np.sqrt(np.maximum(-(sums * sums * _LORENTZ).sum(1), 0))
    nearness: Points = products / np.maximum(length, 1e-12)
    return -nearness


def metrics() -> Any:
    """scikit-learn's figures.

    Raises:
        MissingExtra: it is not installed.
    """
    with needs("explain", "Embedding plots need scikit-learn"):
        return importlib.import_module("sklearn.metrics")
