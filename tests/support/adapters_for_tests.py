"""Small models of every backbone, prompt setting and method that adapter files are tested with."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from support.adapter_files import PREPROCESSING
from support.backbones_for_tests import prompted, tiny_swin, tiny_vit
from torch import Tensor, nn

import e2vpt

BACKBONES: dict[str, nn.Module] = {
    "vit": tiny_vit(torch.float32),
    "vit-avg": tiny_vit(torch.float32, global_pool="avg"),
    "swin": tiny_swin(torch.float32),
}
CONFIGS: dict[str, dict[str, Any]] = {
    "default": {},
    "separate": {"share_kv": False, "num_visual": 3, "num_kv": 2},
    "shallow": {"visual_depth": "shallow", "kv_depth": "shallow", "num_visual": 4, "num_kv": 3},
    "visual-only": {"num_kv": 0, "num_visual": 2, "dropout": 0.1},
    "key-value-only": {"num_visual": 0, "share_kv": False},
    "per-block": {"num_visual": (3, 0, 1, 2), "num_kv": (0, 2, 1, 0)},
    "linear": {"num_visual": 0, "num_kv": 0},
    "gated": {"attention": "gated", "num_visual": 3, "num_kv": 2},
}


def model_of(backbone: str, config: str) -> nn.Module:
    """A prompted copy of one of `BACKBONES`, by one of `CONFIGS`."""
    settings = dict(CONFIGS[config])
    if backbone != "swin" and config == "per-block":
        settings = {name: counts[:3] for name, counts in settings.items()}
    return prompted(BACKBONES[backbone], **settings)


def fresh(backbone: str) -> nn.Module:
    """A copy without prompts."""
    return copy.deepcopy(BACKBONES[backbone])


def save(model: nn.Module, path: Path, **options: Any) -> int:
    """Save an adapter file; its size in bytes."""
    return e2vpt.save_adapter(model, path, **({"preprocessing": PREPROCESSING} | options))


def learned(model: nn.Module) -> dict[str, Tensor]:
    """Everything of the task, by name: prompts, masks and head."""
    found = {}
    for index, layer in enumerate(e2vpt.prompt_layers(model)):
        found |= {f"{index}.{name}": getattr(layer, name) for name in ("key", "value", "keep", "gate")}
        if layer.visual is not None:  # what is masked is not stored
            found[f"{index}.visual"] = layer.visual * layer.keep
    found |= {f"head.{name}": tensor for name, tensor in model.get_classifier().state_dict().items()}
    return {name: tensor.detach() for name, tensor in found.items() if tensor is not None}


def tuned_model(method: str, backbone: str = "vit", **prompts: Any) -> nn.Module:
    """A model of a method whose parameters are all away from their start."""
    settings = e2vpt.PromptConfig(init="uniform", kv_init="normal", **prompts)
    model = e2vpt.adapt(fresh(backbone), method, settings, e2vpt.MethodConfig(beside="none"))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model
