"""A picture of what survived."""

from __future__ import annotations

from e2vpt.pruning.selection import Selection

_CELL, _GAP, _LEFT, _TOP = 12, 4, 64, 40  # pixels of the picture
_KEPT, _MASKED, _OUTLINE = "#1f4e79", "#d9e4ef", "#bbbbbb"


def picture(selection: Selection, kept: float) -> str:
    """An SVG: a row for each block, a box for each of its visual prompts, a stripe for each segment.

    `kept` is the share of all elements that stayed.
    """
    num_segments = max(segments.shape[1] for segments in selection.segments)
    stripe = max(2, 48 // num_segments)
    box = stripe * num_segments
    most = max(map(len, selection.tokens))
    width = max(480, _LEFT + most * (box + _GAP) + 8)
    height = _TOP + len(selection.tokens) * (_CELL + _GAP) + 8
    shapes = [_box(0, 0, width, height, "white")]
    shapes.append(_text(8, 16, f"Visual prompts: {kept:.0%} of their elements kept."))
    shapes.append(_text(8, 32, "Dark: segment kept. Pale: segment masked. Empty: prompt removed."))
    for row, (tokens, segments) in enumerate(zip(selection.tokens, selection.segments, strict=True)):
        y = _TOP + row * (_CELL + _GAP)
        shapes.append(_text(8, y + _CELL - 2, f"block {row + 1}"))
        for column, (stays, stripes) in enumerate(zip(tokens.tolist(), segments.tolist(), strict=True)):
            x = _LEFT + column * (box + _GAP)
            shapes.append(_box(x, y, box, _CELL, "none", f' stroke="{_OUTLINE}"'))
            colours = [_KEPT if on else _MASKED for on in stripes] if stays else []
            shapes += [_box(x + i * stripe, y, stripe, _CELL, c) for i, c in enumerate(colours)]
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">'
    return "\n".join([head, *shapes, "</svg>"]) + "\n"


def _box(x: int, y: int, width: int, height: int, fill: str, more: str = "") -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}"{more}/>'


def _text(x: int, y: int, words: str) -> str:
    return f'<text x="{x}" y="{y}">{words}</text>'
