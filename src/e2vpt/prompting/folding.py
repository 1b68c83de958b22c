"""Prompts that no longer change: every block's table is computed once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from e2vpt.errors import ConfigError
from e2vpt.prompting.attention import AttentionWithPrompts


@contextmanager
def folded(model: nn.Module) -> Iterator[None]:
    """Inside the block a model predicts with tables that are computed once, for what it is now.

    The first forward pass computes each block's extra keys and values, all later ones use them: the same
    logits in fewer steps. Under autocast they are made once more, in that precision. No gradient reaches the
    prompts, and what changes a prompt, a norm or a projection inside shows only after the block. Prompts that
    travel through the blocks (`visual_depth="shallow"`) have no table; a model without prompts is left alone.

    Raises:
        ConfigError: the model is in training mode, now or in a forward pass inside.
    """
    attentions = [module for module in model.modules() if isinstance(module, AttentionWithPrompts)]
    if model.training or any(module.training or module.prompts.training for module in attentions):
        raise ConfigError(
            "folded(model) is for prediction, and this model is in training mode. Call model.eval() first."
        )
    tables: list[dict[torch.dtype | None, Tensor | None]] = [{} for _ in attentions]
    for attention, own in zip(attentions, tables, strict=True):
        attention.stored.append(own)
    try:
        yield
    finally:
        for attention, own in zip(attentions, tables, strict=True):
            # By identity: two threads may leave in another order than they entered.
            attention.stored[:] = [other for other in attention.stored if other is not own]
