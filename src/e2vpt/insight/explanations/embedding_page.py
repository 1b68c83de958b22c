"""Embeddings before and after adaptation as a page: points that say which picture they are."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from e2vpt.errors import visible
from e2vpt.insight.documents import filled
from e2vpt.insight.explanations.before_after import MEASURES, SPACES, BeforeAfter
from e2vpt.insight.explanations.embedding import Embedding
from e2vpt.insight.explanations.separation import Points

WHENS = {"before": "Before: the frozen backbone", "after": "After adaptation"}


def hue_and_lightness(place: int, total: int) -> tuple[float, float]:
    """0 to 1, of the class at `place` of `total`: hues far apart, two lightnesses where there are many."""
    if total <= 12:
        return place / total, 0.52
    return (place * 137.508 / 360) % 1, 0.52 if place % 2 else 0.40


def in_view(points: Points) -> Points:
    """A plane's points [n, 2] moved and scaled, both axes alike, into -1 to 1."""
    middle = (points.max(0) + points.min(0)) / 2
    moved: Points = points - middle
    return moved / max(float(np.abs(moved).max()), 1e-12)


def embedding_page(found: BeforeAfter) -> bytes:
    """Both planes before and after, the figures, and a legend that picks out a class."""
    present = sorted(set(found.labels.tolist()))
    where = {label: place for place, label in enumerate(present)}
    places = [where[label] for label in found.labels.tolist()]
    names = [visible(found.classes[label]) for label in present]
    page = filled(
        "embedding.html",
        run=visible(found.run),
        split=visible(found.split),
        images=visible(found.data),
        num_images=len(found.files),
        classes=[
            {"name": name, "colour": _css(*hue_and_lightness(place, len(names)))}
            for place, name in enumerate(names)
        ],
        figures=_figures(found),
        spaces=[_space(space, found, places) for space in ("hyperbolic", "euclidean")],
        data={"files": [visible(name) for name in found.files], "places": places, "classes": names},
    )
    return page.encode()


def _css(hue: float, lightness: float) -> str:
    return f"hsl({360 * hue:.0f}, 62%, {lightness:.0%})"


def _figures(found: BeforeAfter) -> list[dict[str, Any]]:
    rows = []
    for space, words in SPACES.items():
        for figure, what in MEASURES.items():
            before, after = (
                dataclasses.asdict(each.separation[space])[figure] for each in (found.before, found.after)
            )
            shown = "{:.1%}" if figure == "nearest_centroid" else "{:.3f}"
            row = {"before": shown.format(before), "after": shown.format(after), "is_better": after > before}
            rows.append({"where": words, "what": what, **row})
    return rows


def _space(space: str, found: BeforeAfter, places: list[int]) -> dict[str, Any]:
    plots = [
        {"when": when, "title": title, **_plot(space, each, places)}
        for (when, title), each in zip(WHENS.items(), (found.before, found.after), strict=True)
    ]
    return {"id": space, "name": SPACES[space], "is_disc": space == "hyperbolic", "plots": plots}


def _plot(space: str, each: Embedding, places: list[int]) -> dict[str, Any]:
    points = each.disc if space == "hyperbolic" else in_view(each.plane)
    measured = each.separation[space]
    return {
        "silhouette": f"{measured.silhouette:.3f}",
        "nearest_centroid": f"{measured.nearest_centroid:.1%}",
        "marks": [
            (place, f"{x:.1f}", f"{-y:.1f}")
            for place, (x, y) in zip(places, (100 * points).tolist(), strict=True)
        ],
    }
