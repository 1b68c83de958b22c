"""Embeddings before and after adaptation as a PNG."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np

from e2vpt.errors import visible
from e2vpt.insight.explanations.before_after import SPACES, BeforeAfter
from e2vpt.insight.explanations.embedding_page import WHENS, hue_and_lightness, in_view
from e2vpt.insight.explanations.heat import as_png, new_figure

_SHAPES = "os^DP"
_MOST_IN_LEGEND = 50


def embedding_png(found: BeforeAfter) -> bytes:
    """Both planes, a row each, before and after; the figures of separation above each plot."""
    figure = new_figure(11, 10.6)
    places: Any = figure.subplots(2, 2)
    for row, space in zip(places, ("hyperbolic", "euclidean"), strict=True):
        for axes, title, each in zip(row, WHENS.values(), (found.before, found.after), strict=True):
            measured = each.separation[space]
            points = each.disc if space == "hyperbolic" else in_view(each.plane)
            _scatter(axes, points, found)
            axes.set_title(
                f"{title}, {SPACES[space]}\nsilhouette {measured.silhouette:.3f}, "
                f"nearest centroid {measured.nearest_centroid:.1%}",
                fontsize=10,
            )
            if space == "hyperbolic":
                turn = np.linspace(0, 2 * np.pi, 200)
                axes.plot(np.cos(turn), np.sin(turn), color="#999999", linewidth=0.8)
    handles, names = places[0][0].get_legend_handles_labels()
    if len(names) <= _MOST_IN_LEGEND:
        legend = figure.legend(
            handles, names, loc="outside right upper", fontsize=7, ncols=1 + len(names) // 30, frameon=False
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
    return as_png(figure)


def _scatter(axes: Any, points: Any, found: BeforeAfter) -> None:
    present = sorted(set(found.labels.tolist()))
    for place, label in enumerate(present):
        own = points[found.labels == label]
        axes.scatter(
            own[:, 0],
            own[:, 1],
            s=11,
            linewidths=0,
            color=colorsys.hls_to_rgb(*hue_and_lightness(place, len(present)), 0.62),
            marker=_SHAPES[place % len(_SHAPES)],
            # An underscore in front would keep it out of the legend.
            label=" " + visible(found.classes[label])[:30],
        )
    axes.set(aspect="equal", xlim=(-1.05, 1.05), ylim=(-1.05, 1.05))
    axes.set_axis_off()
