"""UMAP into both planes: classes that lie apart stay apart, and the same seed gives the same points."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from e2vpt.errors import DataError, MissingExtra
from e2vpt.insight.explanations.embedding import embedding


def features(apart: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = np.arange(60) % 3
    centres = random.normal(size=(3, 16)) * apart
    return (random.normal(size=(60, 16)) + centres[labels]).astype(np.float32), labels


def test_what_is_apart_in_the_features_is_apart_in_both_planes() -> None:
    far, near = (embedding(*features(apart), seed=1) for apart in (4.0, 0.0))
    for space in ("features", "hyperbolic", "euclidean"):
        assert far.separation[space].silhouette > near.separation[space].silhouette + 0.2
        assert far.separation[space].nearest_centroid > 0.95 > near.separation[space].nearest_centroid
    assert far.disc.shape == far.plane.shape == (60, 2)
    assert np.hypot(*far.disc.T).max() < 1
    again = embedding(*features(4.0), seed=1)
    assert np.array_equal(far.disc, again.disc) and np.array_equal(far.plane, again.plane)


def test_few_images_are_refused() -> None:
    x, labels = features(1.0)
    with pytest.raises(DataError, match="at least 10 images; found 9"):
        embedding(x[:9], labels[:9])


@pytest.mark.parametrize("missing", ["umap", "sklearn.metrics"])
def test_a_missing_library_gives_the_command(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtra, match=r"pip install 'e2vpt\[explain\]'"):
        embedding(*features(1.0))
