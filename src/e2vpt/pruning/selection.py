"""Which prompts stay: the highest scores, as masks (paper, section 3.3).

Shapes: p visual prompts, m key-value prompts, R segments.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from e2vpt.config.pruning import Layout
from e2vpt.errors import ConfigError
from e2vpt.pruning.scores import Scores

Wanted = float | int
"""How much to keep: a share (float in [0, 1]) or a count (int)."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Selection:
    """What stays: boolean tensors in the shapes of `Scores`; a token without a segment is not in `tokens`."""

    tokens: tuple[Tensor, ...]
    segments: tuple[Tensor, ...]
    key_value: tuple[Tensor, ...]
    layout: Layout


def select(
    scores: Scores,
    *,
    tokens: Wanted = 1.0,
    segments: Wanted = 1.0,
    key_value: Wanted = 1.0,
    at_least_one: bool = True,
) -> Selection:
    """Keep the highest scores: first of the tokens, then of the segments of the tokens kept.

    Shared scores give one mask for all blocks. Otherwise all blocks compete, so they may keep different
    numbers; a count is then over all blocks together. `at_least_one` leaves every block one visual prompt.

    Raises:
        ConfigError: a share outside [0, 1] or a count of more than there is.
    """
    chosen = _highest(scores.tokens, tokens, scores.shared, at_least_one)
    open_segments = [
        part.masked_fill(~kept[:, None], -math.inf)
        for part, kept in zip(scores.segments, chosen, strict=True)
    ]
    kept = _highest(open_segments, segments, scores.shared, at_least_one)
    return Selection(
        tokens=tuple(part.any(-1) for part in kept),
        segments=tuple(kept),
        key_value=tuple(_highest(scores.key_value, key_value, scores.shared, at_least_one=False)),
        layout=scores.layout,
    )


# Selecting.


def _highest(parts: Sequence[Tensor], wanted: Wanted, shared: bool, at_least_one: bool) -> list[Tensor]:
    """Masks of the `wanted` highest finite scores of every block."""
    if shared:
        sizes = {len(part): part for part in parts if len(part)}
        masks = {size: _top([part], wanted, at_least_one)[0] for size, part in sizes.items()}
        return [masks[len(part)] if len(part) else part.bool() for part in parts]
    return _top(parts, wanted, at_least_one)


def _top(parts: Sequence[Tensor], wanted: Wanted, at_least_one: bool) -> list[Tensor]:
    """Masks of the `wanted` highest finite scores over all parts together; ties go to the first."""
    flat = [part.flatten().clone() for part in parts]
    count = _count(wanted, sum(int(part.isfinite().sum()) for part in flat))
    if at_least_one:
        live = [part for part in flat if bool(part.isfinite().any())]
        for part in live:
            part[part.argmax()] = math.inf
        count = max(count, len(live))
    ranked = torch.cat(flat)
    mask = torch.zeros(len(ranked), dtype=torch.bool)
    mask[ranked.argsort(descending=True, stable=True)[:count]] = True
    pieces = torch.split(mask, [len(part) for part in flat])
    return [piece.view(part.shape) for piece, part in zip(pieces, parts, strict=True)]


def _count(wanted: Wanted, total: int) -> int:
    # NumPy's numbers are these too, and no tensor is.
    is_number = isinstance(wanted, numbers.Real) and not isinstance(wanted, bool)
    is_count = isinstance(wanted, numbers.Integral)
    if not is_number or not 0 <= wanted <= (total if is_count else 1):
        raise ConfigError(
            f"{wanted!r} cannot be kept of {total}; give a share from 0.0 to 1.0 or a count up to {total}."
        )
    return int(wanted) if is_count else math.floor(float(wanted) * total + 0.5)
