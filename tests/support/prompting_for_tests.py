"""A prompted model of every kind that `MODELS` lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.backbones_for_tests import MODELS, prompted
from torch import Tensor, nn

each_model = pytest.mark.parametrize("kind", MODELS)


def made(kind: str, dtype: torch.dtype = torch.float64, **config: Any) -> nn.Module:
    """Of a kind in `MODELS`: 3 visual and 2 key-value prompts, if nothing else is asked for."""
    make, options = MODELS[kind]
    return prompted(make(dtype), **({"num_visual": 3, "num_kv": 2} | options | config))


def overhear(module: nn.Module, note: Callable[[Tensor], None]) -> None:
    """Show a module's inputs to `note`. Not by a hook: for one, the last block computes all of its rows."""
    forward = module.forward

    def noting(x: Tensor) -> Tensor:
        note(x)
        out: Tensor = forward(x)
        return out

    module.forward = noting


class RowCounter:
    """How many rows every MLP of a model sees."""

    def __init__(self, model: nn.Module) -> None:
        self.rows: list[int] = []
        for block in model.blocks:
            overhear(block.mlp, lambda x: self.rows.append(x.shape[1]))
