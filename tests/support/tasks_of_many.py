"""Adapters of several kinds on one small backbone."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from support.backbones_for_tests import tuned
from torch import nn

import e2vpt
from e2vpt import MethodConfig, PromptConfig

KINDS: dict[str, tuple[int, dict[str, Any]]] = {
    "mixed": (4, {"num_visual": 3, "num_kv": 2}),
    "without biases": (2, {"num_visual": 1, "num_kv": 0, "beside": "none"}),
    "norms": (6, {"method": "layernorm"}),
    "linear": (3, {"method": "linear"}),
}
"""Name to number of classes and options."""


def write_adapter(
    path: Path,
    backbone: nn.Module,
    num_classes: int,
    *,
    method: str = "e2vpt",
    beside: str = "auto",
    **prompts: Any,
) -> Path:
    """An adapter file with random values, of a copy of the backbone."""
    model = copy.deepcopy(backbone)
    model.reset_classifier(num_classes)  # type: ignore[operator]
    e2vpt.adapt(model, method, PromptConfig(**prompts), MethodConfig(beside=beside))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in tuned(model).values():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    size: Any = tuple(model.patch_embed.img_size)  # type: ignore[union-attr, arg-type]
    prep = e2vpt.Preprocessing(image_size=size, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    e2vpt.save_adapter(model, path, preprocessing=prep)
    return path
