"""An adapted model as plain layers, what is tuned beside weights multiplied into them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from e2vpt.backbones.families import unwrapped
from e2vpt.methods.adapt import Adapted
from e2vpt.methods.names import PEFT_METHODS
from e2vpt.prompting.tuned_linear import TunedLinear


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
