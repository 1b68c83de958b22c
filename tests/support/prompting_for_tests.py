"""A prompted model of every kind that `MODELS` lists."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.backbones_for_tests import MODELS, prompted
from torch import nn

each_model = pytest.mark.parametrize("kind", MODELS)


def made(kind: str, dtype: torch.dtype = torch.float64, **config: Any) -> nn.Module:
    """Of a kind in `MODELS`: 3 visual and 2 key-value prompts, if nothing else is asked for."""
    make, options = MODELS[kind]
    return prompted(make(dtype), **({"num_visual": 3, "num_kv": 2} | options | config))
