"""timm's attention written out, plain and rotary, with prompts among its keys."""

from __future__ import annotations

import math

import torch
from timm.layers import apply_rot_embed_cat
from timm.models.swin_transformer_v2 import WindowAttention as CosineWindowAttention
from torch import Tensor, nn
from torch.nn import functional as F


class PlainAttention(nn.Module):
    """timm's attention written out, with key-value prompts in front of the other keys."""

    def __init__(self, attention: nn.Module, key: Tensor | None, value: Tensor | None, extra: int = 0):
        super().__init__()
        self.timm, self.key_value, self.extra = attention, (key, value), extra

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """`attn_mask` is over the image tokens, which stand behind `extra` prompt rows."""
        q, k, v = self.project(x)
        return self.look(x, q, k, v, attn_mask, is_causal)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B, H, N, d]."""
        timm = self.timm
        if timm.qkv is None:
            q, k, v = timm.q_proj(x), timm.k_proj(x), timm.v_proj(x)
        else:
            q, k, v = timm.qkv(x).chunk(3, dim=-1)
        if getattr(timm, "q_bias", None) is not None:
            q, v = q + timm.q_bias, v + timm.v_bias
        width = q.shape[-1] // timm.num_heads
        q, k, v = (each.unflatten(-1, (-1, width)).transpose(1, 2) for each in (q, k, v))
        if isinstance(timm, CosineWindowAttention):
            scale = timm.logit_scale.clamp(max=math.log(100)).exp()
            q, k = F.normalize(q, dim=-1) * scale * math.sqrt(width), F.normalize(k, dim=-1)
        return getattr(timm, "q_norm", nn.Identity())(q), getattr(timm, "k_norm", nn.Identity())(k), v

    def look(
        self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None, is_causal: bool
    ) -> Tensor:
        """What the queries find there and at the key-value prompts, projected."""
        timm, (key, value) = self.timm, self.key_value
        batch, tokens, _ = x.shape
        num_kv = 0
        if key is not None:
            num_kv = key.shape[1]
            k = torch.cat([key.expand(batch, -1, -1, -1), k], dim=2)
            v = torch.cat([value.expand(batch, -1, -1, -1), v], dim=2)
        k, v = (each.repeat_interleave(q.shape[1] // each.shape[1], dim=1) for each in (k, v))
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        images = tokens - self.extra
        if is_causal:
            attn_mask = torch.ones(images, images, dtype=torch.bool).tril()
        if attn_mask is not None:
            if attn_mask.dtype == torch.bool:
                attn_mask = torch.zeros(attn_mask.shape, dtype=x.dtype).masked_fill(~attn_mask, -math.inf)
            bias = scores.new_zeros(*attn_mask.shape[:-2], tokens, tokens + num_kv)
            bias[..., self.extra :, num_kv + self.extra :] = attn_mask
            scores = scores + bias
        out = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, tokens, -1)
        out = getattr(timm, "norm", nn.Identity())(out)
        if getattr(timm, "gate", None) is not None:
            out = out * timm.gate(x).sigmoid()
        return timm.proj(out)


class PlainRotaryAttention(PlainAttention):
    """timm's EvaAttention or AttentionRope written out; prompt rows are further prefix tokens."""

    def forward(
        self,
        x: Tensor,
        rope: Tensor | None = None,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        q, k, v = self.project(x)
        if rope is not None:
            start = self.extra + self.timm.num_prefix_tokens
            q, k = (
                torch.cat(
                    [
                        each[:, :, :start],
                        apply_rot_embed_cat(each[:, :, start:], rope, half=self.timm.rotate_half),
                    ],
                    2,
                )
                for each in (q, k)
            )
        return self.look(x, q, k, v, attn_mask, is_causal)
