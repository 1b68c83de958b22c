"""A frozen linear layer and what is tuned beside its weight: y = s ⊙ (W x) + b.

The scales s, one for each output channel, are those of SSF (arXiv 2210.08823), whose shifts are the biases.
Attention algebra that reads a weight or a bias has to ask `parts_of`.

Shapes: C_in and C_out channels; A channels each of queries, keys and values.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from e2vpt.errors import ConfigError
from e2vpt.prompting.scaled_frozen import scaled_frozen, scaled_weight
from e2vpt.prompting.sites import take_over

LinearParts = tuple[Tensor, Tensor | None, Tensor | None]
"""Weight [C_out, C_in]; bias and scale [C_out], or [B, C_out] where every image has its own, or None."""


class TunedLinear(nn.Linear):
    """A linear layer with its parameters under their own names.

    Attributes:
        scale: Parameter [C_out], which starts at one; or None.
        has_key_bias: False in a projection to queries, keys and values whose `bias` is [2·A], without that of
            the keys (see `without_key_bias`).
        stored: scaled weights, of each `folded` that is entered; empty outside.
    """

    scale: nn.Parameter | None

    def __init__(self, linear: nn.Linear) -> None:
        take_over(self, linear)
        self.scale = None
        self.has_key_bias = True
        self.stored: list[Tensor] = []

    def __getstate__(self) -> dict[str, Any]:
        # A copy or pickle of a model is not inside `folded`.
        return {**self.__dict__, "stored": []}

    def forward(self, x: Tensor) -> Tensor:
        """x [..., C_in] -> [..., C_out]."""
        return scaled_linear(x, *parts_of(self))

    def parts(self) -> LinearParts:
        """What `parts_of` says of this layer."""
        bias: Tensor | None = self.bias
        if not self.has_key_bias:
            queries, values = self.bias.chunk(2)
            bias = torch.cat([queries, torch.zeros_like(queries), values])
        if not self.stored:
            return self.weight, bias, self.scale
        if self.training:
            raise ConfigError(
                "Inside `folded` a model only predicts. Train outside the block, or call model.eval()."
            )
        return self.stored[-1], bias, None

    def scaled_weight(self) -> Tensor:
        """s ⊙ W: what a plain linear layer would have to hold to compute the same. Without gradients."""
        assert self.scale is not None
        # In this order: leaving inference mode switches gradients on.
        with torch.inference_mode(False), torch.no_grad():
            return scaled_weight(self.weight, self.scale)


def with_scale(linear: nn.Linear) -> TunedLinear:
    """The layer with scales of one."""
    tuned = linear if isinstance(linear, TunedLinear) else TunedLinear(linear)
    tuned.scale = nn.Parameter(torch.ones_like(linear.weight[:, 0]))
    return tuned


def without_key_bias(qkv: nn.Linear) -> TunedLinear:
    """A projection to queries, keys and values, without the keys' bias.

    Exact where all keys have it: q·(k + b) adds q·b to every score of a query, which no softmax sees.
    """
    tuned = TunedLinear(qkv)
    tuned.bias, tuned.has_key_bias = nn.Parameter(cut_key_bias(qkv.bias)), False
    return tuned


def cut_key_bias(bias_3A: Tensor) -> Tensor:
    """[3·A] -> [2·A]: the biases of queries and of values."""
    queries, _, values = bias_3A.detach().chunk(3)
    return torch.cat([queries, values])


def parts_of(linear: nn.Linear) -> LinearParts:
    """What a linear layer computes with now; no scale where there is none, or `folded` has multiplied it in.

    Raises:
        ConfigError: in training mode inside `folded`.
    """
    if isinstance(linear, TunedLinear):
        return linear.parts()
    return linear.weight, linear.bias, None


def is_plain(linear: nn.Module) -> bool:
    """Whether a layer computes what its parts say: not one that PEFT or a hook has changed."""
    known = type(linear) is nn.Linear or isinstance(linear, TunedLinear)
    return known and not (linear._forward_hooks or linear._forward_pre_hooks)


def scaled_linear(x: Tensor, weight: Tensor, bias: Tensor | None, scale: Tensor | None) -> Tensor:
    """`F.linear`, its products scaled: x [..., C_in] -> [..., C_out]."""
    alike = all(part is None or part.dim() == 1 for part in (bias, scale))
    if scale is None and alike:
        return F.linear(x, weight, bias)
    if scale is not None and alike and not weight.requires_grad:
        return scaled_frozen(x, weight, bias, scale)
    products = F.linear(x, weight)
    # As autocast rounds weights and biases.
    bias, scale = (
        None if part is None else by_image(part, products).to(products.dtype) for part in (bias, scale)
    )
    if scale is None:
        assert bias is not None
        return products + bias
    return products * scale if bias is None else torch.addcmul(bias, products, scale)


def by_image(values: Tensor, like: Tensor) -> Tensor:
    """Values [C], or [B, C] of B images, to be broadcast to what was computed of them, [n·B, ..., C]."""
    if values.dim() == 1:
        return values
    repeats = like.shape[0] // values.shape[0]
    values = values if repeats == 1 else values.repeat_interleave(repeats, 0)
    return values.view(values.shape[0], *[1] * (like.dim() - 2), values.shape[1])
