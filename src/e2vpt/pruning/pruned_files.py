"""What pruning leaves in a run folder: scores, a table of what was tried, a picture of what survived."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from e2vpt.errors import AdapterFormatError, RunError
from e2vpt.files.atomic import write_csv
from e2vpt.files.container import read_container, write_container
from e2vpt.pruning.scores import Scores
from e2vpt.pruning.selection import Selection

_PARTS = ("tokens", "segments", "key_value")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """One row of the table: a pruning that was looked at.

    Attributes:
        stage: "unpruned", "trial" (pruned, evaluated, not trained again) or "retrained".
        tokens, segments: shares that were asked for.
        kept: share of the visual prompt elements that stayed.
        num_tuned: parameters of the prompts that stayed, and what is tuned beside them.
        bytes: size of the adapter file.
        epochs: epochs trained for this row alone.
        accuracy, loss: on the validation images (on the training images where there are none).
        chosen: whether it became the run's adapter.
    """

    stage: str
    tokens: float
    segments: float
    kept: float
    num_tuned: int
    bytes: int
    epochs: int
    accuracy: float
    loss: float
    chosen: bool = False


def write_table(path: Path, rows: list[Tried]) -> None:
    """The rows as CSV, replacing the file at once."""
    columns = [field.name for field in dataclasses.fields(Tried)]
    write_csv(path, [dataclasses.asdict(row) for row in rows], columns)


def save_scores(path: Path, scores: Scores, asked: dict[str, Any]) -> None:
    """Write scores with what they were computed for."""
    tensors = {f"{kind}.{i}": t for kind in _PARTS for i, t in enumerate(getattr(scores, kind))}
    header = {"kind": "scores", "shared": scores.shared, "layout": scores.layout, "asked": asked}
    write_container(path, header, tensors)


def load_scores(path: Path, asked: dict[str, Any]) -> Scores | None:
    """The scores in a file, or None where there is no such file or it was computed for something else.

    Raises:
        RunError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        header, tensors, _ = read_container(path)
    except AdapterFormatError as error:
        raise RunError(f"{error} It can be computed again: delete it.") from error
    if header.get("kind") != "scores" or header.get("asked") != asked:
        return None
    parts: dict[str, tuple[Tensor, ...]] = {}
    for kind in _PARTS:
        count = sum(name.startswith(f"{kind}.") for name in tensors)
        parts[kind] = tuple(tensors[f"{kind}.{i}"] for i in range(count))
    return Scores(**parts, shared=header["shared"], layout=header["layout"])


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
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif"'
    )
    return "\n".join([f'{head} font-size="11">', *shapes, "</svg>"]) + "\n"


def _box(x: int, y: int, width: int, height: int, fill: str, more: str = "") -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{fill}"{more}/>'


def _text(x: int, y: int, words: str) -> str:
    return f'<text x="{x}" y="{y}">{words}</text>'
