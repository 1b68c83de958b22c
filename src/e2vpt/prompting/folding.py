"""Prompts and scales that no longer change: every block's table and scaled weights are computed once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from e2vpt.errors import ConfigError, check_type
from e2vpt.prompting.attention import AttentionWithPrompts
from e2vpt.prompting.tuned_linear import TunedLinear


@contextmanager
def folded(model: nn.Module) -> Iterator[None]:
    """Inside the block the model only predicts, and each block's table is computed once.

    The first forward pass computes every table and the later ones reuse it: the same logits with less work.
    Under autocast the model computes further tables, in that precision. No gradient reaches the prompts.
    Changes of a prompt, a norm or a projection take effect after the block. Prompts that travel through the
    blocks (`visual_depth="shallow"`) have no table. Output scales are multiplied into a copy of the weights,
    which takes their memory once more. A model with neither is left alone.

    Raises:
        ConfigError: the model is in training mode, now or in a forward pass inside.
    """
    check_type("model", model, nn.Module)
    attentions = [module for module in model.modules() if isinstance(module, AttentionWithPrompts)]
    if model.training or any(module.training or module.prompts.training for module in attentions):
        raise ConfigError(
            "folded(model) is for prediction, and this model is in training mode. Call model.eval() first."
        )
    scaled = [m for m in model.modules() if isinstance(m, TunedLinear) and m.scale is not None]
    weights = [linear.scaled_weight() for linear in scaled]
    tables: list[dict[torch.dtype | None, Tensor | None]] = [{} for _ in attentions]
    for attention, own in zip(attentions, tables, strict=True):
        attention.stored.append(own)
    for linear, weight in zip(scaled, weights, strict=True):
        linear.stored.append(weight)
    try:
        yield
    finally:
        for attention, own in zip(attentions, tables, strict=True):
            # By identity: two threads may leave in another order than they entered.
            attention.stored[:] = [other for other in attention.stored if other is not own]
        for linear, weight in zip(scaled, weights, strict=True):
            linear.stored[:] = [other for other in linear.stored if other is not weight]
