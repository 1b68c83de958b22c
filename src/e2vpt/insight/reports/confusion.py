"""The confusion matrix as a picture that stays readable, and small, with hundreds of classes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from torch import Tensor

_SIDE, _MARGIN, _EDGE = 480, 34, 14
_MOST_NUMBERED = 12
_DIGIT = 6.9


def heat_map(table_CC: Tensor, names: Sequence[str]) -> str:
    """An SVG: a row for each true class, a column for each answer, darker the larger the share of the row.

    Classes are numbered as the table of classes beside it numbers them; up to 12 have counts in their cells.
    """
    count = len(table_CC)
    inner = _SIDE - _MARGIN - _EDGE  # a number in the middle of the last cell needs room beside it
    cell = inner / count
    of_class = table_CC.sum(1).clamp(min=1).tolist()
    place = f'x="{_MARGIN}" y="{_MARGIN}" width="{inner}" height="{inner}"'
    parts = [f'<rect class="ground" {place}/>']
    for truth, said in table_CC.nonzero().tolist():
        number = int(table_CC[truth, said])
        share = number / of_class[truth]
        x, y = _MARGIN + said * cell, _MARGIN + truth * cell
        kind = "right" if truth == said else "wrong"
        text = f"{names[truth]} taken for {names[said]}: {number} ({share:.0%})"
        parts.append(
            f'<rect class="{kind}" x="{x:.2f}" y="{y:.2f}" width="{cell:.2f}" height="{cell:.2f}" '
            f'fill-opacity="{0.12 + 0.88 * share:.2f}"><title>{escape(text)}</title></rect>'
        )
        if count <= _MOST_NUMBERED:
            shade = "on" if share > 0.5 else "off"
            parts.append(
                f'<text class="{shade}" x="{x + cell / 2:.1f}" y="{y + cell / 2 + 4:.1f}" '
                f'text-anchor="middle">{number}</text>'
            )
    parts += _numbers(count, cell)
    label = f"Confusion matrix of {count} classes; the most frequent mistakes are in the table beside it."
    head = f'<svg class="heat" viewBox="0 0 {_SIDE} {_SIDE}" role="img" aria-label="{label}">'
    return "".join([head, *parts, "</svg>"])


def _numbers(count: int, cell: float) -> list[str]:
    """Numbers of classes along both sides, as many as there is room for."""
    room = max(18, _DIGIT * (len(str(count)) + 0.5))
    every = next(n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10**6) if n * cell >= room)
    parts = [
        f'<text x="{_MARGIN}" y="12">answer →</text>',
        f'<text x="12" y="{_MARGIN}" text-anchor="end" transform="rotate(-90 12 {_MARGIN})">truth</text>',
    ]
    for number in [1, *range(every, count + 1, every)] if every > 1 else range(1, count + 1):
        middle = _MARGIN + (number - 0.5) * cell
        parts.append(f'<text x="{middle:.1f}" y="{_MARGIN - 6}" text-anchor="middle">{number}</text>')
        parts.append(f'<text x="{_MARGIN - 5}" y="{middle + 4:.1f}" text-anchor="end">{number}</text>')
    return parts
