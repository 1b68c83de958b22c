"""Embeddings before and after adaptation as a page: points that say which picture they are."""

from __future__ import annotations

import dataclasses

import numpy as np

from e2vpt.errors import visible
from e2vpt.insight.before_after import MEASURES, SPACES, BeforeAfter
from e2vpt.insight.documents import marked_up, one_file_page, scrolling_table
from e2vpt.insight.embedding import Embedding
from e2vpt.insight.separation import Points

WHENS = {"before": "Before: the frozen backbone", "after": "After adaptation"}
_MARKERS = (
    '<circle r="2"/>',
    '<rect x="-1.8" y="-1.8" width="3.6" height="3.6"/>',
    '<path d="M0-2.4 2.2 1.7H-2.2Z"/>',
    '<path d="M0-2.6 2.2 0 0 2.6-2.2 0Z"/>',
    '<path d="M-.8-2.3H.8V-.8H2.3V.8H.8V2.3H-.8V.8H-2.3V-.8H-.8Z"/>',
)


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
    symbols = "".join(f'<symbol id="m{i}" overflow="visible">{m}</symbol>' for i, m in enumerate(_MARKERS))
    colours = "".join(
        f".c{i}{{fill:{_css(*hue_and_lightness(i, len(present)))}}}" for i in range(len(present))
    )
    plots = "".join(_plots(space, found, places) for space in ("hyperbolic", "euclidean"))
    body = (
        f"<header><h1>Did adaptation separate the classes?</h1><p>Run <b>{marked_up(found.run)}</b>, "
        f"{len(found.files)} images ({marked_up(found.split)}) of {marked_up(found.data)}, "
        f"{len(present)} classes.</p></header>\n<style>{colours}</style>"
        f'<svg width="0" height="0" aria-hidden="true" style="position:absolute"><defs>{symbols}</defs></svg>'
        f"<main>{_figures(found)}{_legend(names)}{plots}{_HOW_TO_READ_PLOTS}"
        '<p id="told" role="status"></p></main>\n'
    )
    data = {"files": [visible(name) for name in found.files], "places": places, "classes": names}
    return one_file_page("Class separation", body, script="embedding.js", data=data)


def _css(hue: float, lightness: float) -> str:
    return f"hsl({360 * hue:.0f}, 62%, {lightness:.0%})"


_HOW_TO_READ_PLOTS = """<details class="card"><summary>How to read this page</summary>
<ul>
<li>Each mark is a picture; marks close together look alike to the model. UMAP makes the plots and never sees
the classes. Size, shape and distance of groups that lie apart mean little in such a plot.</li>
<li>The <b>hyperbolic plane</b> is drawn as a disc: it has more and more room towards the edge, so a short way
there is a long distance.</li>
<li><b>Silhouette</b>, -1 to 1: how much closer pictures are to their own class than to the next one.
<b>Nearest centroid</b>: how many pictures are closest to the centre of their own class. A picture is not
counted in that centre itself.</li>
<li>The figures of the <b>feature space</b> (cosine) need no plot; compare runs by these. Those of the planes
also depend on UMAP and its seed.</li>
</ul></details>
"""


def _figures(found: BeforeAfter) -> str:
    rows = []
    for space, words in SPACES.items():
        for figure, what in MEASURES.items():
            before, after = (
                dataclasses.asdict(each.separation[space])[figure] for each in (found.before, found.after)
            )
            shown = "{:.1%}" if figure == "nearest_centroid" else "{:.3f}"
            better = ' class="num better"' if after > before else ' class="num"'
            rows.append(
                f'<tr><th scope="row">{words}</th><td>{what}</td><td class="num">{shown.format(before)}</td>'
                f"<td{better}>{shown.format(after)}</td></tr>"
            )
    head = (
        '<th scope="col">where</th><th scope="col">figure</th><th scope="col" class="num">before</th>'
        '<th scope="col" class="num">after</th>'
    )
    return (
        '<section class="card" aria-labelledby="figures"><h2 id="figures">Class separation</h2>'
        + scrolling_table("Table of class separation", head, "".join(rows), kind="figures")
        + "</section>"
    )


def _legend(names: list[str]) -> str:
    items = "".join(
        f'<li><button type="button" data-class="{i}" aria-pressed="false">'
        f'<svg viewBox="-3 -3 6 6" aria-hidden="true"><use href="#m{i % len(_MARKERS)}" class="c{i}"/></svg>'
        f"{marked_up(name)}</button></li>"
        for i, name in enumerate(names)
    )
    return (
        '<section class="card" aria-labelledby="classes"><h2 id="classes">Classes</h2>'
        '<p class="soft">Choose some to see them alone. Point at a mark below to see which picture it is, or '
        "move to a plot with Tab and through it with the arrow keys.</p>"
        f'<ul class="classes">{items}</ul></section>'
    )


def _plots(space: str, found: BeforeAfter, places: list[int]) -> str:
    both = "".join(
        _plot(space, when, title, each, places)
        for (when, title), each in zip(WHENS.items(), (found.before, found.after), strict=True)
    )
    heading = SPACES[space][0].upper() + SPACES[space][1:]
    return (
        f'<section class="card" aria-labelledby="{space}"><h2 id="{space}">{heading}</h2>'
        f'<div class="plots">{both}</div></section>'
    )


def _plot(space: str, when: str, title: str, each: Embedding, places: list[int]) -> str:
    points = each.disc if space == "hyperbolic" else in_view(each.plane)
    measured = each.separation[space]
    marks = "".join(
        f'<use href="#m{place % len(_MARKERS)}" x="{x:.1f}" y="{-y:.1f}" class="c{place}"/>'
        for place, (x, y) in zip(places, (100 * points).tolist(), strict=True)
    )
    edge = '<circle class="edge" r="100"/>' if space == "hyperbolic" else ""
    label = f"{SPACES[space]}, {when}: {len(places)} pictures"
    return (
        f'<div class="plot"><h3>{title}</h3><p class="soft">silhouette {measured.silhouette:.3f}, nearest '
        f'centroid {measured.nearest_centroid:.1%}</p><svg viewBox="-104 -104 208 208" tabindex="0" '
        f'role="application" aria-roledescription="scatter plot" aria-label="{label}" '
        f'aria-describedby="told">{edge}{marks}</svg></div>'
    )
