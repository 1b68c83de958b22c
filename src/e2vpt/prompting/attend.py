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

from e2vpt.prompting.tables import Table


def attend(
    q_BHQd: Tensor,
    k_BHNd: Tensor,
    v_BHNd: Tensor,
    table: Table | None,
    bias: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attention over N tokens and the t extra keys of a table -> [B, H, Q, d].

    `bias` broadcasts to [B, H, Q, N]: additive, or boolean with True where a query may look. No bias reaches
    the extra keys (for Swin as in the official code, reference.md section 2).
    """
    if table is not None:
        shape = k_BHNd.shape[:2] + table.k.shape[-2:]
        k_BHNd = torch.cat([k_BHNd, table.k.to(k_BHNd.dtype).expand(shape)], dim=2)
        v_BHNd = torch.cat([v_BHNd, table.v.to(v_BHNd.dtype).expand(shape)], dim=2)
        if bias is not None:
            bias = F.pad(bias, (0, table.k.shape[-2]), value=True if bias.dtype == torch.bool else 0.0)
    if bias is not None and bias.dtype != torch.bool:
        bias = bias.to(q_BHQd.dtype)
    if _fused_backward_is_slow(q_BHQd, k_BHNd, bias):
        return _attend_manually(q_BHQd, k_BHNd, v_BHNd, bias, dropout)
    return F.scaled_dot_product_attention(q_BHQd, k_BHNd, v_BHNd, attn_mask=bias, dropout_p=dropout)


def one_query(q_BHd: Tensor, x_BND: Tensor, qkv: nn.Linear, table: Table | None) -> Tensor:
    """Attention of one scaled query over what `qkv` makes of tokens x, and over a table -> [B, H, d].

    No keys and values of tokens are projected (see `PromptedAttention.attend_first`).
    """
    parts = (3, q_BHd.shape[1], -1)
    _, key_HdD, value_HdD = torch.unflatten(qkv.weight, 0, parts).unbind()
    scores_BHt = torch.einsum("bhd,hde->bhe", q_BHd, key_HdD) @ x_BND.transpose(1, 2)
    if qkv.bias is not None:
        _, key_bias_Hd, value_bias_Hd = torch.unflatten(qkv.bias, 0, parts).unbind()
        scores_BHt = scores_BHt + (q_BHd * key_bias_Hd).sum(-1, keepdim=True)
    if table is not None:
        on_table = (q_BHd.unsqueeze(2) @ table.k.to(q_BHd.dtype).transpose(-2, -1)).squeeze(2)
        scores_BHt = torch.cat([scores_BHt, on_table], dim=-1)
    weights_BHt = scores_BHt.softmax(dim=-1).to(x_BND.dtype)
    weights_BHN, rest_BHt = weights_BHt.tensor_split([x_BND.shape[1]], dim=-1)
    out_BHd = torch.einsum("bhe,hde->bhd", weights_BHN @ x_BND, value_HdD)
    if qkv.bias is not None:
        out_BHd = out_BHd + weights_BHN.sum(-1, keepdim=True) * value_bias_Hd
    if table is not None:
        out_BHd = out_BHd + (rest_BHt.unsqueeze(2) @ table.v.to(x_BND.dtype)).squeeze(2)
    return out_BHd


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
