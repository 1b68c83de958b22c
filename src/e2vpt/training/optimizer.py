"""The optimizer of a training, and the weights of classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from e2vpt.backbones.families import unwrapped
from e2vpt.config import TrainConfig
from e2vpt.errors import ConfigError
from e2vpt.prompting.parts import classifier
from e2vpt.training.steps import Batches


def make_optimizer(
    parameters: Mapping[str, nn.Parameter], config: TrainConfig, model: nn.Module
) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW; on a GPU all of its parameters are updated at once.

    Output scales have no weight decay: it would draw them from one, where the backbone is, to zero. The head
    of a timm model may have a learning rate of its own (`schedule.set_learning_rate`).

    Raises:
        ConfigError: that is asked for, and the head is not known.
    """
    head = _head_parameters(model) if config.head_lr_scale != 1 else set()
    kinds: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        kind = (config.head_lr_scale if id(parameter) in head else 1.0, name.endswith(".scale"))
        kinds.setdefault(kind, []).append(parameter)
    groups = [
        {"params": held, "lr_scale": lr_scale, "weight_decay": 0.0 if is_scale else config.weight_decay}
        for (lr_scale, is_scale), held in kinds.items()
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.peak_lr, momentum=config.momentum)
    fused = next(iter(parameters.values())).device.type == "cuda"
    return torch.optim.AdamW(groups, lr=config.peak_lr, fused=fused or None)


def _head_parameters(model: nn.Module) -> set[int]:
    if not callable(getattr(unwrapped(model), "get_classifier", None)):
        raise ConfigError(
            f"head_lr_scale: {type(model).__name__} has no get_classifier() that says what its head is."
        )
    return {id(parameter) for parameter in classifier(unwrapped(model)).parameters()}


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
