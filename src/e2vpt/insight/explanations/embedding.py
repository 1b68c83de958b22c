"""Features of images in the hyperbolic and the Euclidean plane, by UMAP (McInnes et al., arXiv 1802.03426).

Shapes: n images, D features.
"""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vpt.errors import DataError, needs
from e2vpt.insight.explanations.separation import Numbered, Points, Separation, metrics, separation

NEIGHBOURS = 15
"""Of each image that UMAP keeps close."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Embedding:
    """Features of images in two planes, and how well classes lie apart.

    Attributes:
        disc: [n, 2] in the Poincaré disc, moved so that the middle of all points is its centre.
        plane: [n, 2] in the Euclidean plane.
        separation: in the "features" themselves (cosine), the "hyperbolic" and the "euclidean" plane.
    """

    disc: Points
    plane: Points
    separation: dict[str, Separation]


def check_embeds() -> Any:
    """UMAP, and what measures; before anything slow begins.

    Raises:
        MissingExtra: one of them is not installed.
    """
    metrics()
    with needs("explain", "Embedding plots need umap-learn"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow, for another class of theirs, is not here
        return importlib.import_module("umap").UMAP


def embedding(features: NDArray[np.float32], labels: Numbered, seed: int = 0) -> Embedding:
    """Features [n, D] with classes [n] in both planes. UMAP does not see the classes.

    Raises:
        DataError: fewer than 10 images, or classes of a single one.
        MissingExtra: without umap-learn or scikit-learn.
    """
    if len(features) < 10:
        raise DataError(f"An embedding plot needs at least 10 images; found {len(features)}.")
    sheet = on_sheet(_umap(features, seed, output_metric="hyperboloid"))
    plane = _umap(features, seed)
    return Embedding(
        disc=in_disc(sheet),
        plane=plane,
        separation={
            "features": separation(features.astype(np.float64), labels, "cosine"),
            "hyperbolic": separation(sheet, labels, "hyperbolic"),
            "euclidean": separation(plane, labels, "euclidean"),
        },
    )


def _umap(features: NDArray[np.float32], seed: int, **more: Any) -> Points:
    neighbours = min(NEIGHBOURS, len(features) - 1)
    made = check_embeds()(
        n_components=2, n_neighbors=neighbours, metric="cosine", random_state=seed, n_jobs=1, **more
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the output metric has no inverse transform, for one
        found: Points = made.fit_transform(features).astype(np.float64)
    return found


def on_sheet(flat: Points) -> Points:
    """UMAP's hyperboloid coordinates [n, 2] with the third: [n, 3] on x² + y² - z² = -1."""
    return np.concatenate([flat, np.sqrt(1 + (flat**2).sum(1, keepdims=True))], axis=1)


def in_disc(sheet: Points) -> Points:
    """Points of the sheet [n, 3] in the Poincaré disc [n, 2], their middle moved to its centre.

    The move is of the hyperbolic plane as a whole and changes no distance.
    """
    everything = np.concatenate([sheet, sheet.sum(0, keepdims=True)])
    # The middle is the sum scaled back to the sheet; the projection is (x, y) / (1 + z).
    everything[-1] /= np.sqrt(everything[-1, 2] ** 2 - (everything[-1, :2] ** 2).sum())
    flat = (everything[:, 0] + 1j * everything[:, 1]) / (1 + everything[:, 2])
    points, middle = flat[:-1], flat[-1]
    moved = (points - middle) / (1 - np.conj(middle) * points)
    return np.stack([moved.real, moved.imag], axis=1)
