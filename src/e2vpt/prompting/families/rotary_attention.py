"""Attention that rotates queries and keys by position, with prompts: timm's Eva, which DINOv3, EVA-02 and
Perception Encoder are.

Prompts have no position. Like class and register tokens they are not rotated: a query looks at the rotated
keys of the image's patches, and at the table's keys as they are.

Shapes: B images, N tokens, D model width, H heads (of keys and values there may be fewer), d head width,
A = H·d.
"""

from __future__ import annotations

from functools import partial

import torch
from timm.layers import apply_rot_embed_cat
from torch import Tensor, nn

from e2vpt.prompting.attend import one_mask
from e2vpt.prompting.attention import AttentionWithPrompts
from e2vpt.prompting.tables import Projection, as_keys_values, as_queries


class PromptedRotaryAttention(AttentionWithPrompts):
    """timm's EvaAttention or AttentionRope plus `prompts`.

    Their weights lie in one projection or in three, and of the one projection the biases may lie beside it,
    as two Parameters and a buffer of zeros.
    """

    def forward(
        self, x: Tensor, rope: Tensor | None = None, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """x [B, N, D] -> [B, N, D]; `rope` and `attn_mask` as in timm, over the image tokens."""
        q, kv, to_kv = self.project(x)
        bias = one_mask(attn_mask, is_causal, q, x.shape[1])
        q = self._rotated(self._child("q_norm")(q), rope)
        return self._found(x, q, kv, to_kv, rope, bias)

    def attend_first(self, x: Tensor, rope: Tensor | None = None) -> Tensor:
        """Outputs [B, 1, D] of the class token alone, as `forward` gives them; its query is not rotated."""
        q, kv, to_kv = self.project(x, 1)
        return self._found(x, self._child("q_norm")(q), kv, to_kv, rope)

    def _found(
        self,
        x: Tensor,
        q: Tensor,
        kv: Tensor,
        to_kv: Projection | None,
        rope: Tensor | None,
        attn_mask: Tensor | None = None,
    ) -> Tensor:
        """Outputs [B, Q, D] of queries [B, H, Q, d] that are normed, and where they have a place rotated."""
        table = self.table(kv, x.shape[0], to_kv)
        out = self.look(q.type_as(kv), kv, table, attn_mask, partial(self._positioned_keys, rope=rope))
        return self.project_out(out.transpose(1, 2).flatten(2), x)

    def projections(self) -> tuple[Projection, Projection]:
        """What makes queries [..., A], and keys and values [..., 2·A], of tokens [..., D]."""
        if self.qkv is not None:
            return super().projections()
        to_k, to_v = self._child("k_proj"), self._child("v_proj")
        return self._child("q_proj"), lambda x: torch.cat([to_k(x), to_v(x)], dim=-1)

    def project(
        self, x_BND: Tensor, num_queries: int | None = None
    ) -> tuple[Tensor, Tensor, Projection | None]:
        """As the base's; through three projections where there is no fused one."""
        if self.qkv is not None:
            return super().project(x_BND, num_queries)
        to_q, to_kv = self.projections()
        kv_BN2Hd = as_keys_values(to_kv(x_BND), self.num_key_heads)
        return as_queries(to_q(x_BND[:, :num_queries]), self.num_heads), kv_BN2Hd, to_kv

    def _positioned_keys(self, k_BNHd: Tensor, rope: Tensor | None) -> Tensor:
        k_BHNd = self._child("k_norm")(k_BNHd).transpose(1, 2)
        return self._rotated(k_BHNd, rope).type_as(k_BNHd).transpose(1, 2)

    def _rotated(self, x_BHNd: Tensor, rope: Tensor | None) -> Tensor:
        """Queries or keys with the patches among them rotated; the prefix and travelling prompts are not."""
        if rope is None:
            return x_BHNd
        # timm's older ones know one layout only.
        layout = {"half": True} if getattr(self, "rotate_half", False) else {}
        start: int = self.num_prefix_tokens  # type: ignore[assignment]
        before, patches, behind = x_BHNd.tensor_split([start, start + rope.shape[-2]], dim=2)
        return torch.cat([before, apply_rot_embed_cat(patches, rope, **layout), behind], dim=2)

    def _child(self, name: str) -> Projection:
        """A norm or projection that not every one of them has; timm's older ones have no norm of keys."""
        child: nn.Module = getattr(self, name, None) or nn.Identity()
        return child
