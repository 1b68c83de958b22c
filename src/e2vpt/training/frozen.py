"""Frozen weights held in lower precision while they are only read.

Autocast casts a frozen weight again in every forward pass (it caches casts of weights that train only). Held
in bf16, a frozen matrix needs no cast; what is computed stays the same to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def hold_frozen(model: nn.Module, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Hold the frozen float32 weights of linear and convolution layers in `dtype`, from now on.

    Returns each with the tensor it was before. Everything else, which enters sums in full precision, stays.
    """
    layers = (module for module in model.modules() if isinstance(module, (nn.Linear, nn.Conv2d)))
    held = [(layer.weight, layer.weight.data) for layer in layers if _is_frozen(layer.weight)]
    for parameter, data in held:
        parameter.data = data.to(dtype)
    return held


@contextmanager
def frozen_in(model: nn.Module, dtype: torch.dtype | None) -> Iterator[None]:
    """Inside, frozen weights are held in `dtype` (None: as they are); afterwards they are as before."""
    held = [] if dtype is None else hold_frozen(model, dtype)
    try:
        yield
    finally:
        for parameter, data in held:
            parameter.data = data


def _is_frozen(weight: Tensor) -> bool:
    return weight.dtype == torch.float32 and not weight.requires_grad
