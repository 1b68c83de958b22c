"""Attention of timm that reads the weight of its projection instead of calling it, made to call it.

What PEFT puts in the projection's place, or scales its outputs, would have no effect otherwise.
"""

from __future__ import annotations

from typing import Any

from timm.models.beit import Attention as BeitAttention
from timm.models.eva import EvaAttention
from timm.models.swin_transformer_v2 import WindowAttention as CosineWindowAttention
from torch import nn

from e2vpt.prompting.sites import take_over


class Calling(nn.Module):
    """Stands before a class of timm's that can add the biases of a projection afterwards."""

    def __init__(self, attention: nn.Module) -> None:
        take_over(self, attention)
        self.qkv_bias_separate = True


class CallingEvaAttention(Calling, EvaAttention):
    """Eva's."""


class CallingBeitAttention(Calling, BeitAttention):
    """BEiT's."""


class CallingWindowAttention(Calling, CosineWindowAttention):
    """The second Swin's."""


_CALLING: dict[Any, type[Calling]] = {
    EvaAttention: CallingEvaAttention,
    BeitAttention: CallingBeitAttention,
    CosineWindowAttention: CallingWindowAttention,
}


def call_projections(model: nn.Module) -> None:
    """Let every attention of a model call its projection; its results stay the same but for rounding."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) in _CALLING and child.q_bias is not None:
                setattr(parent, name, _CALLING[type(child)](child))
