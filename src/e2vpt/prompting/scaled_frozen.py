"""y = s ⊙ (W x) + b of a frozen W, with gradients that keep nothing but y.

Left to autograd, the products W x are kept for the gradient of s. But W x = (y - b) / s, so with g the
gradient of y, over all rows n

    ∂s = Σ_n g_n ⊙ (W x_n) = (Σ_n g_n ⊙ y_n - b ⊙ Σ_n g_n) / s,        ∂b = Σ_n g_n,

and y is often kept already, by what comes after the layer. s ⊙ W is formed once, for forward and backward.

Shapes: N rows, C_in and C_out channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_SMALLEST = 1e-4
"""Of |s| in the division. A scale starts at one; below this its gradient comes out too small, never too
large."""


def scaled_frozen(x: Tensor, weight: Tensor, bias: Tensor | None, scale: Tensor) -> Tensor:
    """x [..., C_in] -> s ⊙ (W x) + b [..., C_out]; weight [C_out, C_in] without gradient."""
    if not torch.is_grad_enabled():
        return F.linear(x, scaled_weight(weight, scale), bias)
    result: Tensor = _ScaledFrozen.apply(x, weight, bias, scale)
    return result


def scaled_weight(weight: Tensor, scale: Tensor) -> Tensor:
    """s ⊙ W, rounded once where W is held in lower precision than s."""
    return (weight * scale.unsqueeze(1)).to(weight.dtype)


class _ScaledFrozen(torch.autograd.Function):
    """The function above, and its gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, scale: Tensor) -> Tensor:
        scaled = scaled_weight(weight, scale)
        y = F.linear(x, scaled, bias)
        ctx.save_for_backward(scaled, weight, bias, scale, y)
        ctx.kind = x.dtype
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, None, Tensor | None, Tensor | None]:
        scaled, weight, bias, scale, y = ctx.saved_tensors
        if torch.is_grad_enabled():
            # For second derivatives: what was formed in the forward pass knows nothing of its scale.
            scaled = scaled_weight(weight, scale)
        wants_x, _, wants_bias, wants_scale = ctx.needs_input_grad
        grad_x = (grad_y @ scaled.to(grad_y.dtype)).to(ctx.kind) if wants_x else None
        rows = tuple(range(grad_y.dim() - 1))
        # Rounded as autocast rounds the gradient of a bias; asking for float32 takes three times as long.
        total = grad_y.sum(rows).to(scale.dtype)
        grad_scale = None
        if wants_scale:
            moved = (grad_y * y).sum(rows).to(scale.dtype)
            moved = moved if bias is None else moved - total * bias.to(scale.dtype)
            grad_scale = moved / torch.where(
                scale < 0, scale.clamp(max=-_SMALLEST), scale.clamp(min=_SMALLEST)
            )
        return grad_x, None, total.to(bias.dtype) if wants_bias else None, grad_scale
