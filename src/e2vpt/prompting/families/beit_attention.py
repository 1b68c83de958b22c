"""BEiT's attention with prompts: what a pair of patches adds to its score by position, no prompt has.

Shapes: B images, N tokens, D model width, H heads.
"""

from __future__ import annotations

from timm.models.beit import Attention
from torch import Tensor
from torch.nn import functional as F

from e2vpt.prompting.attention import AttentionWithPrompts


class PromptedBeitAttention(AttentionWithPrompts, Attention):
    """timm's BEiT attention plus `prompts`."""

    def forward(self, x: Tensor, shared_rel_pos_bias: Tensor | None = None) -> Tensor:
        """x [B, N, D] -> [B, N, D]; the bias by position that all blocks share is [1, H, N, N], if any."""
        q, kv, to_kv = self.project(x)
        own = None if self.relative_position_bias_table is None else self._get_rel_pos_bias()
        both = [bias for bias in (own, shared_rel_pos_bias) if bias is not None]
        bias = sum(both[1:], start=both[0]) if both else None
        if bias is not None:  # travelling prompts stand behind the tokens that it is for
            behind = x.shape[1] - bias.shape[-1]
            bias = F.pad(bias, (0, behind, 0, behind))
        out = self.look(q, kv, self.table(kv, x.shape[0], to_kv), bias)
        return self.project_out(out.transpose(1, 2).flatten(2), x)
