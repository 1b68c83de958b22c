"""A small model of every method on every kind of backbone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.backbones_for_tests import GROUPED, tiny_beit, tiny_eva, tiny_swin, tiny_swin_v2, tiny_vit
from torch import nn

from e2vpt import PromptConfig
from e2vpt.config import MethodConfig
from e2vpt.methods.adapt import adapt
from e2vpt.methods.names import METHODS
from e2vpt.prompting.parts import tuned_parameters

BACKBONES: dict[str, Any] = {
    "vit": tiny_vit,
    "swin": tiny_swin,
    "beit": tiny_beit,
    "swin-v2": tiny_swin_v2,
    "eva": tiny_eva,
    "eva-grouped": lambda dtype=torch.float64: tiny_eva(dtype, **GROUPED),
}
PROMPTS = PromptConfig(num_visual=4, num_kv=3)
OPTIONS = MethodConfig(adapter_width=5, lora_rank=2)
both_backbones = pytest.mark.parametrize("kind", BACKBONES)
every_method = pytest.mark.parametrize("method", METHODS)


def made(kind: str, method: str, options: MethodConfig = OPTIONS, dtype: torch.dtype = torch.float64) -> Any:
    """The same model each time."""
    torch.manual_seed(0)
    return adapt(BACKBONES[kind](dtype), method, PROMPTS, options).to(dtype)


def moved(model: nn.Module, seed: int = 1) -> nn.Module:
    """Everything tuned at random values, as after a training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(0.05 * noise.to(parameter))
    return model


def count(model: nn.Module) -> int:
    """Parameters tuned beside prompts and head."""
    return sum(p.numel() for p in tuned_parameters(model).values())
