"""Class separation against direct computations, in each geometry."""

from __future__ import annotations

import math

import numpy as np
import pytest

from e2vpt.errors import DataError
from e2vpt.insight.explanations.embedding import in_disc, on_sheet
from e2vpt.insight.explanations.separation import Geometry, Points, pairwise, separation

GEOMETRIES: list[Geometry] = ["cosine", "euclidean", "hyperbolic"]


def points(geometry: Geometry, seed: int = 0, apart: float = 1.0) -> tuple[Points, np.ndarray]:
    """24 points of three classes around centres that are `apart`."""
    random = np.random.default_rng(seed)
    labels = np.arange(24) % 3
    flat = random.normal(size=(24, 2)) * 0.4 + apart * np.array([[1, 0], [-1, 1], [0, -1]])[labels]
    return (on_sheet(flat) if geometry == "hyperbolic" else flat), labels


def distance(u: Points, v: Points, geometry: Geometry) -> float:
    if geometry == "cosine":
        return 1 - float(u @ v) / math.hypot(*u) / math.hypot(*v)
    if geometry == "euclidean":
        return math.dist(u, v)
    return math.acosh(max(1.0, u[2] * v[2] - u[0] * v[0] - u[1] * v[1]))


def centre(members: Points, geometry: Geometry) -> Points:
    if geometry == "cosine":
        members = members / np.linalg.norm(members, axis=1, keepdims=True)
    mean: Points = members.mean(0)
    return mean / math.sqrt(mean[2] ** 2 - mean[0] ** 2 - mean[1] ** 2) if geometry == "hyperbolic" else mean


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_both_figures_equal_a_direct_computation(geometry: Geometry) -> None:
    x, labels = points(geometry)
    silhouettes, right = [], []
    for i, point in enumerate(x):
        others = np.arange(24) != i
        means = [
            np.mean([distance(point, x[j], geometry) for j in np.flatnonzero(others & (labels == c))])
            for c in range(3)
        ]
        own, next_best = means[labels[i]], min(m for c, m in enumerate(means) if c != labels[i])
        silhouettes.append((next_best - own) / max(own, next_best))
        centres = [centre(x[others & (labels == c)], geometry) for c in range(3)]
        to_centres = [distance(point, each, geometry) for each in centres]
        right.append(int(np.argmin(to_centres)) == labels[i])
    found = separation(x, labels, geometry)
    assert found.silhouette == pytest.approx(float(np.mean(silhouettes)), abs=1e-9)
    assert found.nearest_centroid == pytest.approx(float(np.mean(right)), abs=1e-12)
    assert 0 < found.nearest_centroid < 1 or geometry != "cosine"


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_classes_further_apart_are_better_separated(geometry: Geometry) -> None:
    near, far = (separation(*points(geometry, apart=apart), geometry) for apart in (0.2, 3.0))
    assert far.silhouette > near.silhouette + 0.2
    assert far.nearest_centroid > near.nearest_centroid


def test_a_point_is_not_in_its_own_centre() -> None:
    """Six points far from each other in two classes of chance: in its own centre each would be right."""
    x = np.eye(6)
    found = separation(x, np.array([0, 1, 0, 1, 0, 1]), "euclidean")
    assert found.nearest_centroid == 0


def test_hyperbolic_distances_are_those_of_the_poincare_disc() -> None:
    """arcosh(1 + 2|u - v|² / (1 - |u|²)(1 - |v|²)): the move to the centre and the projection change none."""
    sheet, _ = points("hyperbolic", apart=2.0)
    disc = in_disc(sheet)
    gap = ((disc[:, None] - disc[None]) ** 2).sum(-1)
    room = 1 - (disc**2).sum(-1)
    expected = np.arccosh(1 + 2 * gap / (room[:, None] * room[None]))
    assert np.allclose(pairwise(sheet, "hyperbolic"), expected, atol=1e-6)
    assert np.hypot(*disc.T).max() < 1


def test_the_middle_of_the_disc_is_the_middle_of_the_points() -> None:
    sheet = on_sheet(np.array([[5.0, 1.0], [5.0, 3.0]]))
    disc = in_disc(sheet)
    assert np.allclose(disc[0], -disc[1], atol=1e-9)


@pytest.mark.parametrize("labels", [[0] * 24, [0] * 23 + [1]])
def test_too_few_to_compare_are_refused(labels: list[int]) -> None:
    with pytest.raises(DataError, match="two classes with two images"):
        separation(points("euclidean")[0], np.array(labels), "euclidean")
