"""Prompt rows that stand in the sequence and are carried through the blocks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

import e2vpt


def under_its_head(backbone: nn.Module, model: nn.Module) -> nn.Module:
    """A copy of the backbone that shares the model's head."""
    plain = copy.deepcopy(backbone)
    plain.head = model.head
    return plain


def carried(
    model: nn.Module,
    x: Tensor,
    drawn: Sequence[Tensor | None] | None,
    run: Callable[[int, nn.Module, Tensor, int], Tensor],
) -> Tensor:
    """Tokens [B, N, D] through all blocks, each block's prompt rows in front of them.

    `run` computes one block: its number, its prompts, the sequence, how many prompt rows stand in it.
    """
    travelling = 0
    for index, layer in enumerate(e2vpt.prompt_layers(model)):
        rows = rows_of(layer, None if drawn is None else drawn[index])
        extra = 0 if rows is None else rows.shape[-2]
        if rows is not None:
            x = torch.cat([rows.expand(len(x), -1, -1), x], dim=1)
        travelling = extra if layer.travels and extra else travelling
        x = run(index, layer, x, extra or travelling)
        if not layer.travels:
            x = x[:, extra:]
    return x[:, travelling:]


def rows_of(layer: nn.Module, drawn: Tensor | None) -> Tensor | None:
    """A block's visual prompts, masked, or what was drawn in their place."""
    if layer.visual is None:
        return None
    return layer.visual * layer.keep if drawn is None else drawn
