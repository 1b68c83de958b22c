"""Segments of a visual prompt's channels: a mask over segments as a mask over channels, and back.

Shapes: p visual prompts, D model width, R segments of D / R channels each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from e2vpt.config.pruning import Layout
from e2vpt.errors import ConfigError

LAYOUTS: tuple[Layout, ...] = ("strided", "contiguous")


def split_channels(values_pD: Tensor, num_segments: int, layout: Layout) -> Tensor:
    """[..., p, D] -> [..., p, R, D / R]: the channels of every segment.

    Raises:
        ConfigError: D is no multiple of R.
    """
    width = values_pD.shape[-1]
    if num_segments < 1 or width % num_segments:
        raise ConfigError(f"{num_segments} segments do not divide prompts of {width} channels evenly.")
    if layout == "contiguous":
        return torch.unflatten(values_pD, -1, (num_segments, width // num_segments))
    return torch.unflatten(values_pD, -1, (width // num_segments, num_segments)).transpose(-1, -2)


def expand(mask_pR: Tensor, width: int, layout: Layout) -> Tensor:
    """[p, R] -> [p, D]: the value of a segment for each of its channels."""
    each = width // mask_pR.shape[-1]
    if layout == "contiguous":
        return mask_pR.repeat_interleave(each, -1)
    return mask_pR.repeat(1, each)


def compress(keeps: Sequence[Tensor]) -> tuple[list[Tensor], Layout]:
    """Masks over channels [p, D] of every block as masks over the fewest segments [p, R], in one layout.

    Lossless: where no segments explain a mask, every channel is one.
    """
    found = [([_fewest(keep, layout) for keep in keeps], layout) for layout in LAYOUTS]
    return min(found, key=lambda pair: sum(mask.numel() for mask in pair[0]))


def _fewest(keep_pD: Tensor, layout: Layout) -> Tensor:
    width = keep_pD.shape[1]
    for num_segments in (r for r in range(1, width) if width % r == 0):
        mask = split_channels(keep_pD, num_segments, layout)[..., 0]
        if expand(mask, width, layout).equal(keep_pD):
            return mask
    return keep_pD
