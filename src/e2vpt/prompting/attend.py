"""Attention itself: timm's arithmetic, with whichever kernel is quickest for the shapes.

Shapes: B images (or windows), N tokens, Q queries, t extra keys, H heads, d head width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.models.swin_transformer import WindowAttention
from timm.models.vision_transformer import Attention
from torch import Tensor, nn
from torch.nn import functional as F

from e2vpt.prompting.tuned_linear import parts_of


def attend(
    q_BHQd: Tensor,
    k_BHNd: Tensor,
    v_BHNd: Tensor,
    bias: Tensor | None = None,
    *,
    num_extra: int = 0,
    dropout: float = 0.0,
) -> Tensor:
    """Attention of Q queries over N keys and values -> [B, H, Q, d].

    `bias` broadcasts to [B, H, Q, N]: additive, or boolean with True where a query may look. No bias reaches
    the last `num_extra` keys, those of a table (for Swin as in the official code, reference.md section 2).
    """
    if bias is not None:
        if num_extra:
            bias = F.pad(bias, (0, num_extra), value=True if bias.dtype == torch.bool else 0.0)
        if bias.dtype != torch.bool:
            bias = bias.to(q_BHQd.dtype)
    if _fused_backward_is_slow(q_BHQd, k_BHNd, bias):
        return _attend_manually(q_BHQd, k_BHNd, v_BHNd, bias, dropout)
    return F.scaled_dot_product_attention(q_BHQd, k_BHNd, v_BHNd, attn_mask=bias, dropout_p=dropout)


def one_query(
    q_BHd: Tensor, x_BND: Tensor, qkv: nn.Linear, table: Tensor | None, *, is_apart: bool = False
) -> Tensor:
    """Attention of one scaled query over what `qkv` makes of tokens x, and over a table -> [B, H, d].

    The table shares the softmax of the tokens, or `is_apart` and has its own.

    No keys and values of tokens are projected (see `PromptedAttention.attend_first`). The biases come last:
    what all keys have in common changes no softmax, and weights add up to one. So the tokens go without b_k
    and b_v, and a table in their softmax has them taken off. Scales of the projection move to the query and
    to the sum.
    """
    weight_3HdD, bias_3Hd, scale_3Hd = (
        None if part is None else torch.unflatten(part, 0, (3, q_BHd.shape[1], -1)) for part in parts_of(qkv)
    )
    assert weight_3HdD is not None
    _, to_key_HdD, to_value_HdD = weight_3HdD.unbind()
    moved_BHd = q_BHd if scale_3Hd is None else q_BHd * scale_3Hd[1]
    scores_BHt = torch.einsum("bhd,hde->bhe", moved_BHd, to_key_HdD) @ x_BND.transpose(1, 2)
    if table is not None:
        key, value = (table if bias_3Hd is None or is_apart else table - bias_3Hd[1:]).unbind(-3)
        rows = "thd" if key.dim() == 3 else "bthd"
        extra_BHt = torch.einsum(f"bhd,{rows}->bht", q_BHd, key)
        scores_BHt = scores_BHt if is_apart else torch.cat([scores_BHt, extra_BHt], dim=-1)
    weights_BHt = scores_BHt.softmax(dim=-1).to(x_BND.dtype)
    weights_BHN, rest_BHt = weights_BHt.tensor_split([x_BND.shape[1]], dim=-1)
    if table is not None and is_apart:
        rest_BHt = extra_BHt.softmax(dim=-1).to(x_BND.dtype)
    out_BHd = torch.einsum("bhe,hde->bhd", weights_BHN @ x_BND, to_value_HdD)
    out_BHd = out_BHd if scale_3Hd is None else out_BHd * scale_3Hd[2]
    if table is not None:
        out_BHd = out_BHd + torch.einsum(f"bht,{rows}->bhd", rest_BHt, value)
    return out_BHd if bias_3Hd is None else out_BHd + bias_3Hd[2]


_FEW_KEYS = 128


def _fused_backward_is_slow(q: Tensor, k: Tensor, bias: Tensor | None) -> bool:
    """On a CPU with gradients: in bf16, and over few keys with a bias (Swin's windows).

    Both measured (docs/performance.md, docs/diary.md), and no rule for GPUs.
    """
    wanted = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad)
    is_slow = q.dtype == torch.bfloat16 or (bias is not None and k.shape[-2] <= _FEW_KEYS)
    return wanted and q.device.type == "cpu" and is_slow


_TIMM = (Attention, WindowAttention)


@contextmanager
def written_out(model: nn.Module, dtype: torch.dtype | None) -> Iterator[None]:
    """Inside, timm's own attention follows that rule too, for training in `dtype` (None: as it is)."""
    is_slow = dtype == torch.bfloat16 and next(model.parameters()).device.type == "cpu"
    # timm marks the switch as final, for TorchScript.
    fused: list[Any] = []
    if is_slow:
        fused = [m for m in model.modules() if isinstance(m, _TIMM) and m.fused_attn]
    for attention in fused:
        attention.fused_attn = False
    try:
        yield
    finally:
        for attention in fused:
            attention.fused_attn = True


def _attend_manually(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if bias is not None and bias.dtype == torch.bool:
        scores = scores.masked_fill(~bias, -math.inf)
    elif bias is not None:
        scores = scores + bias
    weights = scores.softmax(dim=-1).to(v.dtype)
    return F.dropout(weights, dropout, training=dropout > 0) @ v
