"""Attention of timm that reads the weight of its projection instead of calling it, made to call it."""

from __future__ import annotations

from timm.models.eva import EvaAttention
from torch import nn

from e2vpt.prompting.sites import take_over


class CallingAttention(EvaAttention):
    """timm's EvaAttention whose projection is called, and its biases added afterwards: what stands in the
    projection's place, or scales its outputs, would have no effect otherwise.
    """

    def __init__(self, attention: nn.Module) -> None:
        take_over(self, attention)
        self.qkv_bias_separate = True


def call_projections(model: nn.Module) -> None:
    """Let every attention of a model call its projection; its results stay the same but for rounding."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is EvaAttention and child.q_bias is not None:
                setattr(parent, name, CallingAttention(child))
