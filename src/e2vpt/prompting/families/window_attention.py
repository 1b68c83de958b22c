"""Swin's window attention that also looks at a block's table of prompts (paper, sections 3.1 and 3.2).

The second version compares directions: scores are cosines times a learned scale of each head.

Shapes: B images, W windows of an image, N tokens of a window, D model width, H heads, d head width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from timm.layers import to_2tuple
from timm.models.swin_transformer import WindowAttention
from timm.models.swin_transformer_v2 import WindowAttention as CosineWindowAttention
from torch import Tensor, nn
from torch.nn import functional as F

from e2vpt.errors import UnsupportedBackbone
from e2vpt.prompting.attention import AttentionWithPrompts
from e2vpt.prompting.tables import for_windows


class WindowsWithPrompts(AttentionWithPrompts):
    """What both versions have in common; every window of an image looks at the same prompts."""

    attn_drop: nn.Dropout
    proj_drop: nn.Dropout
    _get_rel_pos_bias: Callable[[], Tensor]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x [B·W, N, D] -> [B·W, N, D]; `mask` [W, N, N] of shifted windows, or None."""
        windows = self._windows_per_image(x.shape[0]) if self.prompts.differs_by_image else 1
        q, kv, to_kv = self.project(x)
        table = self.table(kv, x.shape[0] // windows, to_kv)
        if table is not None and table.dim() == 5:
            table = for_windows(table, x.shape[0] // table.shape[0])
        return self.attend(q, kv, table, mask)

    def attend(self, q_BHNd: Tensor, kv_BN2Hd: Tensor, table: Tensor | None, mask: Tensor | None) -> Tensor:
        """Outputs [B·W, N, D] of windows, which look at themselves and at the table."""
        bias = self._get_rel_pos_bias()
        if mask is not None:
            bias = (bias + mask.unsqueeze(1)).repeat(kv_BN2Hd.shape[0] // mask.shape[0], 1, 1, 1)
        return self.project_heads(self.look(self.scaled(q_BHNd), kv_BN2Hd, table, bias))

    def scaled(self, q_BHNd: Tensor) -> Tensor:
        """Queries as `attend` takes them."""
        return q_BHNd

    def project_heads(self, out_BHNd: Tensor) -> Tensor:
        """Heads joined and projected: [B, H, N, d] -> [B, N, D]."""
        projected: Tensor = self.proj_drop(self.proj(out_BHNd.transpose(1, 2).flatten(2)))
        return projected

    def _windows_per_image(self, num_windows: int) -> int:
        """Windows an image is cut into, from the block's fixed input size."""
        block: Any = self.block[0]
        per_image: int = math.prod(
            math.ceil(side / window)
            for side, window in zip(to_2tuple(block.input_resolution), block.window_size, strict=True)
        )
        # With a size free to change, 4 times the windows may be 4 images or one of 4 times the area.
        if num_windows % per_image or getattr(block, "dynamic_mask", False):
            raise UnsupportedBackbone(
                f"Prompt dropout needs a Swin of one image size: {num_windows} windows arrived, {per_image} "
                "an image are expected, and this backbone takes any size. Create it with this img_size and "
                "without dynamic_img_size, or set dropout=0."
            )
        return per_image


class PromptedWindowAttention(WindowsWithPrompts, WindowAttention):
    """timm's Swin window attention plus `prompts`."""


class PromptedCosineWindowAttention(WindowsWithPrompts, CosineWindowAttention):
    """The window attention of timm's second Swin plus `prompts`. Key-value prompts keep their length."""

    def _get_rel_pos_bias(self) -> Tensor:
        """What the place of one token beside another adds to its score: [1, H, N, N].

        Under the name that timm's first version has it; the second computes it inside its forward pass.
        """
        by_offset: Any = self.cpb_mlp(self.relative_coords_table).view(-1, self.num_heads)
        bias = by_offset[self.relative_position_index].permute(2, 0, 1).unsqueeze(0)
        return 16 * torch.sigmoid(bias)

    def scaled(self, q_BHNd: Tensor) -> Tensor:
        """Directions of queries times the head's scale, of which `attend` takes the root of d away."""
        scale: Tensor = self.logit_scale.clamp(max=math.log(100)).exp() * q_BHNd.shape[-1] ** 0.5
        directions: Tensor = F.normalize(q_BHNd, dim=-1)
        return directions * scale.to(directions.dtype)
