"""Prompts with a softmax of their own, scaled by a gate, in a ViT or Swin."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from support.oracles.carried import rows_of
from torch import Tensor, nn
from torch.nn import functional as F

import e2vpt


class GatedAttention(nn.Module):
    """timm's attention, and what its queries find at the prompts in a softmax of their own."""

    def __init__(self, attention: nn.Module, norm: nn.Module, layer: nn.Module, rows: Tensor | None):
        super().__init__()
        self.timm, self.norm, self.layer, self.rows = attention, norm, layer, rows

    def forward(self, x: Tensor, mask: Tensor | None = None, **more: Tensor | bool) -> Tensor:
        """`mask` is Swin's; `more` is what a ViT's block gives."""
        timm, layer, heads = self.timm, self.layer, self.timm.num_heads
        out = timm(x, **more) if mask is None else timm(x, mask)

        def split(tokens: Tensor) -> Tensor:
            q, k, v = timm.qkv(tokens).reshape(*tokens.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)
            return getattr(timm, "q_norm", nn.Identity())(q), getattr(timm, "k_norm", nn.Identity())(k), v

        q, keys, values = split(x)[0], [], []
        if self.rows is not None:
            rows = self.rows if self.rows.dim() == 3 else self.rows[None]
            _, k, v = split(self.norm(rows))
            keys, values = [k], [v]
        if layer.key is not None:
            keys, values = [*keys, layer.key[None]], [*values, layer.value[None]]
        if not keys:
            return out
        images = max(len(each) for each in keys)
        k, v = (torch.cat([each.expand(images, -1, -1, -1) for each in both], 2) for both in (keys, values))
        k, v = (each.repeat_interleave(len(x) // images, 0) for each in (k, v))
        found = (q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])).softmax(-1) @ v
        found = found * layer.gate[:, None, None]
        return out + F.linear(found.transpose(1, 2).flatten(2), timm.proj.weight)


def gated_oracle(
    backbone: nn.Module, model: nn.Module, images: Tensor, drawn: Sequence[Tensor | None] | None = None
) -> Tensor:
    """Logits [B, C] of a ViT or Swin whose prompts have a softmax of their own."""
    plain = copy.deepcopy(backbone)
    plain.head = model.head
    blocks = [block for block in plain.modules() if hasattr(block, "attn")]
    for index, (block, layer) in enumerate(zip(blocks, e2vpt.prompt_layers(model), strict=True)):
        rows = rows_of(layer, None if drawn is None else drawn[index])
        block.attn = GatedAttention(block.attn, block.norm1, layer, rows)
    return plain(images)
