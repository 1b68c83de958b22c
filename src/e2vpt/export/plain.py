"""An adapted model as plain layers, what is tuned beside weights multiplied into them; its bare backbone."""

from __future__ import annotations

import copy
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from e2vpt.adapters.reading import read_stored
from e2vpt.backbones.families import unwrapped
from e2vpt.backbones.load import backbone_from, backbone_name, load_backbone
from e2vpt.errors import ConfigError
from e2vpt.methods.adapt import Adapted
from e2vpt.methods.peft import PEFT_METHODS
from e2vpt.prompting.tuned_linear import TunedLinear
from e2vpt.runs.task_model import TaskModel, weights_of_run


def plain_copy(model: nn.Module) -> nn.Module:
    """A copy that computes the same, on the CPU, in float32 and eval mode; its prompts are still prompts."""
    plain = copy.deepcopy(unwrapped(model)).cpu().float().eval().requires_grad_(False)
    adapted = getattr(plain, "adapted", None)
    if isinstance(adapted, Adapted) and adapted.method in PEFT_METHODS:
        _merge_peft(plain)
    for parent in list(plain.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, TunedLinear):
                setattr(parent, name, _plain_linear(child))
    return plain


def plain_backbone(task: TaskModel, weights: str | PathLike[str] | None) -> nn.Module:
    """The backbone of a task as it is without it, with a head of one class; loaded again.

    `weights` as the task was loaded with.

    Raises:
        ConfigError: the backbone has no name to build it by.
        As `load_backbone`.
    """
    name, size = backbone_name(task.model), task.info.preprocessing.image_size[0]
    if not name:
        raise ConfigError(
            f"The backbone of {task.path} was made by hand; expected one that timm has a name for."
        )
    bundled = read_stored(task.path).bundled if task.info.bundled and weights is None else None
    if bundled is not None:
        return backbone_from(bundled.weights, task.path, name, num_classes=1, image_size=size)
    file = weights or weights_of_run(task.path)
    return load_backbone(name, num_classes=1, image_size=size, weights=None if file is None else Path(file))


def _plain_linear(tuned: TunedLinear) -> nn.Linear:
    weight, bias, scale = tuned.parts()
    linear = nn.Linear(tuned.in_features, tuned.out_features, bias=bias is not None, device="meta")
    weight = weight if scale is None else tuned.scaled_weight()
    linear.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return linear.eval()


@torch.no_grad()
def _merge_peft(model: nn.Module) -> None:
    from peft.tuners.tuners_utils import BaseTunerLayer

    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, BaseTunerLayer):
                layer: Any = child
                layer.merge()
                setattr(parent, name, layer.get_base_layer())
