"""A frozen linear layer whose outputs are scaled, one factor per channel: y = s ⊙ (W x) + b.

The scales are those of SSF (arXiv 2210.08823), its shifts are the biases. They are part of the weights, so
attention algebra that reads a weight has to ask `parts_of`.

Shapes: C_in and C_out channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from e2vpt.errors import ConfigError
from e2vpt.prompting.sites import take_over

LinearParts = tuple[Tensor, Tensor | None, Tensor | None]
"""Weight [C_out, C_in]; bias and scale [C_out], or None."""


class ScaledLinear(nn.Linear):
    """A linear layer, its parameters under their own names, and `scale` [C_out], which starts at one.

    Attributes:
        stored: scaled weights, of each `folded` that is entered; empty outside.
    """

    def __init__(self, linear: nn.Linear) -> None:
        take_over(self, linear)
        self.scale = nn.Parameter(torch.ones_like(linear.weight[:, 0]))
        self.stored: list[Tensor] = []

    def __getstate__(self) -> dict[str, Any]:
        # A copy or pickle of a model is not inside `folded`.
        return {**self.__dict__, "stored": []}

    def forward(self, x: Tensor) -> Tensor:
        """x [..., C_in] -> [..., C_out]."""
        return scaled_linear(x, *parts_of(self))

    @torch.no_grad()
    def scaled_weight(self) -> Tensor:
        """s ⊙ W: what a plain linear layer would have to hold to compute the same."""
        with torch.inference_mode(False):
            return self.weight * self.scale.unsqueeze(1)


def parts_of(linear: nn.Linear) -> LinearParts:
    """What a linear layer computes with now; no scale where there is none, or `folded` has multiplied it in.

    Raises:
        ConfigError: in training mode inside `folded`.
    """
    if not isinstance(linear, ScaledLinear):
        return linear.weight, linear.bias, None
    if not linear.stored:
        return linear.weight, linear.bias, linear.scale
    if linear.training:
        raise ConfigError(
            "Inside `folded` a model only predicts. Train outside the block, or call model.eval()."
        )
    return linear.stored[-1], linear.bias, None


def scaled_linear(x: Tensor, weight: Tensor, bias: Tensor | None, scale: Tensor | None) -> Tensor:
    """`F.linear`, its products scaled: x [..., C_in] -> [..., C_out].

    The outputs are multiplied, not the weight: a scaled copy of it would need the weight's gradient to give
    that of the scale, half as much work again as the backward pass of a frozen layer.
    """
    if scale is None:
        return F.linear(x, weight, bias)
    products = F.linear(x, weight)
    # As autocast rounds weights and biases.
    scale = scale.to(products.dtype)
    return products * scale if bias is None else torch.addcmul(bias.to(products.dtype), products, scale)
