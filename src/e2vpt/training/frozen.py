"""Frozen weights held in lower precision while they are only read.

Autocast casts a frozen weight again in every forward pass (it caches casts of weights that train only). Held
in bf16, a frozen matrix needs no cast; what is computed stays the same to the bit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class HeldFrozen:
    """Context: inside, the frozen float32 weights of linear and convolution layers are held in `dtype`.

    None leaves them as they are. Entered again, the same tensors in memory serve, so that a CUDA graph may
    read them. Everything else, which enters sums in full precision, stays.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype | None) -> None:
        layers = (module for module in model.modules() if isinstance(module, (nn.Linear, nn.Conv2d)))
        weights = [layer.weight for layer in layers if _is_frozen(layer.weight)]
        self._held = [] if dtype is None else [(w, w.data, w.data.to(dtype)) for w in weights]

    def __enter__(self) -> None:
        for parameter, _, low in self._held:
            parameter.data = low

    def __exit__(self, *error: object) -> None:
        for parameter, full, _ in self._held:
            parameter.data = full


def _is_frozen(weight: Tensor) -> bool:
    return weight.dtype == torch.float32 and not weight.requires_grad
