"""The optimizer of a training, its learning rate at every step, and the weights of classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from e2vpt.config import TrainConfig
from e2vpt.errors import ConfigError
from e2vpt.training.steps import Batches


def make_optimizer(parameters: Mapping[str, nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW; on a GPU all of its parameters are updated at once.

    Output scales have no weight decay: it would draw them from one, where the backbone is, to zero.
    """
    scales = [p for name, p in parameters.items() if name.endswith(".scale")]
    others = [p for name, p in parameters.items() if not name.endswith(".scale")]
    groups: list[dict[str, Any]] = [{"params": others}]
    if scales:
        groups.append({"params": scales, "weight_decay": 0.0})
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=config.peak_lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
    fused = next(iter(parameters.values())).device.type == "cuda"
    return torch.optim.AdamW(groups, lr=config.peak_lr, weight_decay=config.weight_decay, fused=fused or None)


def learning_rate(step: int, num_steps: int, config: TrainConfig) -> float:
    """Linear warm-up, then a half cosine to zero (reference.md section 3)."""
    warm = round(config.warmup * num_steps)
    if step < warm:
        return config.peak_lr * (step + 1) / warm
    return config.peak_lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, num_steps - warm)))


def class_weights(loader: Batches, config: TrainConfig, model: nn.Module, parameter: Tensor) -> Tensor | None:
    """n / (C · n_c) for each class c: [C], of the kind of `parameter`."""
    if config.class_weights == "none":
        return None
    labels = getattr(loader, "labels", None)
    if labels is None:
        raise ConfigError(
            "class_weights needs a training loader with `labels`, as e2vpt.data.make_loader gives."
        )
    counts = torch.bincount(torch.as_tensor(labels), minlength=int(cast(Any, model).num_classes))
    return (len(labels) / (len(counts) * counts.clamp(min=1).double())).to(parameter)
