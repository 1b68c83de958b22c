"""Attention itself: timm's arithmetic, with whichever kernel is quickest for the shapes.

Shapes: B images (or windows), N tokens, Q queries, t extra keys, H heads, d head width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from e2vpt.backbones.families import ATTENTIONS
from e2vpt.errors import ConfigError
from e2vpt.prompting.tuned_linear import parts_of


def attend(
    q_BHQd: Tensor,
    k_BHNd: Tensor,
    v_BHNd: Tensor,
    bias: Tensor | None = None,
    *,
    num_extra: int = 0,
    exists_Bt: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attention of Q queries over N keys and values -> [B, H, Q, d].

    `bias` broadcasts to [B, H, Q, N]: additive, or boolean with True where a query may look. No bias reaches
    the last `num_extra` keys, those of a table (for Swin as in the official code, reference.md section 2).
    `exists_Bt`, where given, says which of these each image has.
    """
    if num_extra and (bias is not None or exists_Bt is not None):
        bias = _over_extra(bias, num_extra, exists_Bt, k_BHNd)
    if bias is not None and bias.dtype != torch.bool:
        bias = bias.to(q_BHQd.dtype)
    if _fused_backward_is_slow(q_BHQd, k_BHNd, bias):
        return _attend_manually(q_BHQd, k_BHNd, v_BHNd, bias, dropout)
    return F.scaled_dot_product_attention(q_BHQd, k_BHNd, v_BHNd, attn_mask=bias, dropout_p=dropout)


def one_mask(attn_mask: Tensor | None, is_causal: bool, q_BHQd: Tensor, num_tokens: int) -> Tensor | None:
    """What timm's `attn_mask` and `is_causal` say about Q queries and N tokens, as a bias for `attend`.

    Raises:
        ConfigError: both are given.
    """
    if not is_causal:
        return attn_mask
    if attn_mask is not None:
        raise ConfigError(
            "attn_mask and is_causal=True are both given, and only one can hold. Put the causal mask into "
            "attn_mask."
        )
    return torch.ones(q_BHQd.shape[2], num_tokens, dtype=torch.bool, device=q_BHQd.device).tril()


def attention_weights(
    q_BHQd: Tensor, k_BHNd: Tensor, bias: Tensor | None = None, *, num_extra: int = 0
) -> Tensor:
    """The softmax that `attend` takes, written out: [B, H, Q, N]; for looking at, as no kernel gives it."""
    return _weighted(q_BHQd, k_BHNd, None if bias is None else _over_extra(bias, num_extra, None, k_BHNd))


def _over_extra(bias: Tensor | None, num_extra: int, exists_Bt: Tensor | None, k_BHNd: Tensor) -> Tensor:
    """A bias over image tokens, or none, as one over these and the rows of a table."""
    if bias is None:
        bias = torch.ones(1, 1, 1, k_BHNd.shape[2] - num_extra, dtype=torch.bool, device=k_BHNd.device)
    is_mask = bias.dtype == torch.bool
    if exists_Bt is None:
        return F.pad(bias, (0, num_extra), value=True if is_mask else 0.0)
    seen = exists_Bt[:, None, None]
    if not is_mask:
        seen = torch.zeros_like(seen, dtype=bias.dtype).masked_fill(~seen, -math.inf)
    shape = [max(sides) for sides in zip(bias.shape[:-1], seen.shape[:-1], strict=True)]
    return torch.cat([part.expand(*shape, -1) for part in (bias, seen)], dim=-1)


def one_query(
    q_BHd: Tensor,
    x_BND: Tensor,
    qkv: nn.Linear,
    table: Tensor | None,
    *,
    exists_Bt: Tensor | None = None,
    is_apart: bool = False,
) -> Tensor:
    """Attention of one scaled query over what `qkv` makes of tokens x, and over a table -> [B, H, d].

    The table, of which each image has the rows that `exists_Bt` says, shares the softmax of the tokens, or
    `is_apart` and has its own.

    No keys and values of tokens are projected (see `PromptedAttention.attend_first`). The biases come last:
    what all keys have in common changes no softmax, and weights add up to one. So the tokens go without b_k
    and b_v, and a table in their softmax has them taken off. Scales of the projection move to the query and
    to the sum.
    """
    weight_3HdD, bias, scale = _by_head(qkv, q_BHd.shape[1])
    _, to_key_HdD, to_value_HdD = weight_3HdD.unbind()
    moved_BHd = q_BHd if scale is None else q_BHd * scale[1]
    scores_BHt = torch.einsum("bhd,hde->bhe", moved_BHd, to_key_HdD) @ x_BND.transpose(1, 2)
    if table is not None:
        shift = None if bias is None or is_apart else bias[1:]
        key, value = _less(table, shift).unbind(-3)
        rows = "thd" if key.dim() == 3 else "bthd"
        extra_BHt = torch.einsum(f"bhd,{rows}->bht", q_BHd, key)
        if exists_Bt is not None:
            extra_BHt = extra_BHt.masked_fill(~exists_Bt.unsqueeze(1), -math.inf)
        scores_BHt = scores_BHt if is_apart else torch.cat([scores_BHt, extra_BHt], dim=-1)
    weights_BHt = scores_BHt.softmax(dim=-1).to(x_BND.dtype)
    weights_BHN, rest_BHt = weights_BHt.tensor_split([x_BND.shape[1]], dim=-1)
    if table is not None and is_apart:
        rest_BHt = extra_BHt.softmax(dim=-1).to(x_BND.dtype)
    out_BHd = torch.einsum("bhe,hde->bhd", weights_BHN @ x_BND, to_value_HdD)
    out_BHd = out_BHd if scale is None else out_BHd * scale[2]
    if table is not None:
        out_BHd = out_BHd + torch.einsum(f"bht,{rows}->bhd", rest_BHt, value)
    return out_BHd if bias is None else out_BHd + bias[2]


def _by_head(qkv: nn.Linear, num_heads: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Weight [3, H, d, D], bias and scale [3, H, d], or [3, B, H, d] where every image has its own."""
    weight, *others = parts_of(qkv)
    bias, scale = (
        None if part is None else torch.unflatten(part, -1, (3, num_heads, -1)).movedim(-3, 0)
        for part in others
    )
    return torch.unflatten(weight, 0, (3, num_heads, -1)), bias, scale


def _less(table: Tensor, shift: Tensor | None) -> Tensor:
    """A table [t, 2, H, d] or [B, t, 2, H, d] less biases of keys and values, [2, H, d] or [2, B, H, d]."""
    if shift is None:
        return table
    return table - (shift if shift.dim() == 3 else shift.transpose(0, 1).unsqueeze(1))


_FEW_KEYS = 128


def _fused_backward_is_slow(q: Tensor, k: Tensor, bias: Tensor | None) -> bool:
    """On a CPU with gradients: in bf16, and over few keys with a bias (Swin's windows).

    Both measured (docs/performance.md, docs/diary.md), and no rule for GPUs.
    """
    wanted = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad)
    is_slow = q.dtype == torch.bfloat16 or (bias is not None and k.shape[-2] <= _FEW_KEYS)
    return wanted and q.device.type == "cpu" and is_slow


@contextmanager
def written_out(model: nn.Module, dtype: torch.dtype | None) -> Iterator[None]:
    """Inside, timm's own attention follows that rule too, for training in `dtype` (None: as it is)."""
    is_slow = dtype == torch.bfloat16 and next(model.parameters()).device.type == "cpu"
    # timm marks the switch as final, for TorchScript.
    fused: list[Any] = []
    if is_slow:
        fused = [m for m in model.modules() if isinstance(m, ATTENTIONS) and getattr(m, "fused_attn", False)]
    for attention in fused:
        attention.fused_attn = False
    try:
        yield
    finally:
        for attention in fused:
            attention.fused_attn = True


def _attend_manually(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
    weights = _weighted(q, k, bias).to(v.dtype)
    return F.dropout(weights, dropout, training=dropout > 0) @ v


def _weighted(q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if bias is not None and bias.dtype == torch.bool:
        scores = scores.masked_fill(~bias, -math.inf)
    elif bias is not None:
        scores = scores + bias
    weights: Tensor = scores.softmax(dim=-1)
    return weights
