"""Swin's window attention that also looks at a block's table of prompts (paper, sections 3.1 and 3.2).

Shapes: B images, W windows of an image, N tokens of a window, D model width, H heads, d head width.
"""

from __future__ import annotations

import math

from timm.layers import to_2tuple
from timm.models.swin_transformer import SwinTransformerBlock, WindowAttention
from torch import Tensor

from e2vpt.errors import UnsupportedBackbone
from e2vpt.prompting.attention import AttentionWithPrompts
from e2vpt.prompting.tables import for_windows, project_tokens


class PromptedWindowAttention(AttentionWithPrompts, WindowAttention):
    """timm's Swin window attention plus `prompts`; every window of an image looks at the same ones."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x [B·W, N, D] -> [B·W, N, D]; `mask` [W, N, N] of shifted windows, or None."""
        windows = self._windows_per_image(x.shape[0]) if self.prompts.differs_by_image else 1
        q, kv, to_kv = project_tokens(self.qkv, x, x.shape[1], self.num_heads)
        table = self.table(kv, x.shape[0] // windows, to_kv)
        if table is not None and table.dim() == 5:
            table = for_windows(table, x.shape[0] // table.shape[0])
        return self.attend(q, kv, table, mask)

    def attend(self, q_BHNd: Tensor, kv_BN2Hd: Tensor, table: Tensor | None, mask: Tensor | None) -> Tensor:
        """Outputs [B·W, N, D] of windows, which look at themselves and at the table."""
        bias = self._get_rel_pos_bias()
        if mask is not None:
            bias = (bias + mask.unsqueeze(1)).repeat(kv_BN2Hd.shape[0] // mask.shape[0], 1, 1, 1)
        return self.project_heads(self.look(q_BHNd, kv_BN2Hd, table, bias))

    def project_heads(self, out_BHNd: Tensor) -> Tensor:
        """Heads joined and projected: [B, H, N, d] -> [B, N, D]."""
        projected: Tensor = self.proj_drop(self.proj(out_BHNd.transpose(1, 2).flatten(2)))
        return projected

    def _windows_per_image(self, num_windows: int) -> int:
        """Windows an image is cut into, from the block's fixed input size."""
        block = self.block[0]
        assert isinstance(block, SwinTransformerBlock)
        per_image: int = math.prod(
            math.ceil(side / window)
            for side, window in zip(to_2tuple(block.input_resolution), self.window_size, strict=True)
        )
        # With a size free to change, 4 times the windows may be 4 images or one of 4 times the area.
        if num_windows % per_image or getattr(block, "dynamic_mask", False):
            raise UnsupportedBackbone(
                f"Prompt dropout needs a Swin of one image size: {num_windows} windows arrived, {per_image} "
                "an image are expected, and this backbone takes any size. Create it with this img_size and "
                "without dynamic_img_size, or set dropout=0."
            )
        return per_image
