"""The ViT's attention with prompts (paper, sections 3.1 and 3.2).

Shapes: B images, N tokens, Q queries, D model width, H heads, d head width.
"""

from __future__ import annotations

from timm.models.vision_transformer import Attention
from torch import Tensor, nn

from e2vpt.prompting.attend import one_mask, one_query
from e2vpt.prompting.attention import AttentionWithPrompts
from e2vpt.prompting.tables import as_queries, split_qkv
from e2vpt.prompting.tuned_linear import is_plain


class PromptedAttention(AttentionWithPrompts, Attention):
    """timm's ViT attention plus `prompts`."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """x [B, N, D] -> [B, N, D]; `attn_mask` as in timm, over the image tokens."""
        return self.attend(x, x.shape[1], attn_mask, is_causal)

    def attend(
        self, x_BND: Tensor, num_queries: int, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Outputs [B, Q, D] of the first Q tokens, which look at all N tokens and at the prompts."""
        q, kv, to_kv = self.project(x_BND, num_queries)
        bias = one_mask(attn_mask, is_causal, q, x_BND.shape[1])
        out = self.look(self.q_norm(q), kv, self.table(kv, x_BND.shape[0], to_kv), bias)
        return self.project_out(out.transpose(1, 2).flatten(2), x_BND)

    def attend_first(self, x_BND: Tensor) -> Tensor:
        """Outputs [B, 1, D] of the first token alone, as `attend(x, 1)` gives them.

        One query needs no projected keys and values of image tokens: q·(W_k x + b_k) = (W_k'q)·x + q·b_k, and
        a weighted sum of W_v x + b_v is W_v and b_v of the weighted sum of x. That is 2·N·D² products fewer.
        """
        dropping = self.training and self.attn_drop.p > 0
        if dropping or not isinstance(self.k_norm, nn.Identity) or not is_plain(self.qkv):
            return self.attend(x_BND, 1)
        to_q, to_kv = split_qkv(self.qkv)
        q_BHd = as_queries(to_q(x_BND[:, :1]), self.num_heads).squeeze(2)
        table = self.table(q_BHd, x_BND.shape[0], to_kv)
        is_apart = self.prompts.gate is not None
        out_BHd = one_query(
            self.q_norm(q_BHd) * self.scale,
            x_BND,
            self.qkv,
            table,
            exists_Bt=self.exists(x_BND.shape[0]),
            is_apart=is_apart,
        )
        return self.project_out(out_BHd.flatten(1).unsqueeze(1), x_BND)
