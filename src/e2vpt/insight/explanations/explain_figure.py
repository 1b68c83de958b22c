"""Explanations of one picture as a PNG: a row for each model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from e2vpt.errors import visible
from e2vpt.insight.explanations.explaining import Explanation
from e2vpt.insight.explanations.heat import as_picture, as_png, new_figure, over_picture, signed_over_picture
from e2vpt.insight.explanations.shares import KINDS, AttentionShares

KIND_COLOURS = ("#9aa7b0", "#5b6770", "#2f7fae", "#d07a2d")
_CUT = 34


def explain_png(rows: Sequence[Explanation]) -> bytes:
    """What each model makes of a picture: the picture, rollout, Grad-CAM, gradients, attention by block."""
    figure = new_figure(14, 3.4 * len(rows) + 0.4)
    places = figure.subplots(len(rows), 5, squeeze=False, width_ratios=(1, 1, 1, 1, 1.3))
    first = rows[0]
    figure.suptitle(_plain(f"{first.file}: why {first.explained[0]}?", 110), parse_math=False)
    for row, axes in zip(rows, places, strict=True):
        _draw(row, axes)
    return as_png(figure)


def _draw(row: Explanation, axes: Any) -> None:
    name, score = row.top[0]
    titles = [f"{_plain(row.run)}\n{_plain(name)} {score:.1%}", "rollout", "Grad-CAM", "integrated gradients"]
    pictures = [
        as_picture(row.seen),
        None if row.rollout is None else over_picture(row.seen, row.rollout.patches.float().numpy()),
        over_picture(row.seen, row.cam),
        signed_over_picture(row.seen, row.integrated),
    ]
    for place, title, picture in zip(axes, titles, pictures, strict=False):
        place.set_title(title, fontsize=10, parse_math=False)
        place.set_axis_off()
        if picture is None:
            place.text(0.5, 0.5, "not defined here", ha="center", va="center", transform=place.transAxes)
        else:
            place.imshow(picture)
    if row.shares is None:
        axes[-1].set_axis_off()
        axes[-1].text(0.5, 0.5, "attention not watched", ha="center", transform=axes[-1].transAxes)
    else:
        _bars(row.shares, axes[-1])


def _bars(shares: AttentionShares, place: Any) -> None:
    """Stacked bars, a block each, from the first at the top."""
    found = shares.by_block().numpy()
    blocks, left = range(1, len(found) + 1), 0.0
    for kind, colour, values, even in zip(KINDS, KIND_COLOURS, found.T, shares.even.T.tolist(), strict=True):
        if max(even) > 0:
            place.barh(blocks, values, left=left, color=colour, label=kind)
            left = left + values
    place.invert_yaxis()
    place.set(xlim=(0, 1), ylabel="block", xlabel="share of attention")
    place.legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)


def _plain(text: str, most: int = _CUT) -> str:
    """A name on one line, and not longer than there is room for."""
    text = visible(text)
    return text if len(text) <= most else text[: most - 1] + "…"
