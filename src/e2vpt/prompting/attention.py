"""timm's attention with room for extra keys and values (ViT, Swin).

Each class takes over the parts of the timm module it replaces, under their own names, and adds one child,
`prompts`. Without prompts it computes what timm computes.

Shapes: B images (or windows), N tokens, Q queries, t extra keys, D model width, H heads, d head width,
A = H·d, W windows of an image.
"""

from __future__ import annotations

import math

import torch
from timm.layers import to_2tuple
from timm.models.swin_transformer import SwinTransformerBlock, WindowAttention
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

from e2vpt.errors import UnsupportedBackbone
from e2vpt.prompting.attend import attend, one_query
from e2vpt.prompting.prompts import BlockPrompts
from e2vpt.prompting.tables import (
    FoldedTable,
    Table,
    build_table,
    can_fold,
    key_value_rows,
    keys_values,
    queries,
)


def take_over(new: nn.Module, old: nn.Module) -> None:
    """Give `new` every parameter, buffer, child, hook and attribute of `old`, under the same names."""
    new.__dict__.update(
        {name: value.copy() if isinstance(value, (dict, set)) else value for name, value in vars(old).items()}
    )


class _Tables:
    """How a prompted attention module gets the table of the coming forward pass."""

    def __init__(self, block: nn.Module) -> None:
        # A container that nn.Module does not look into: the block is no child of its own attention.
        self.block = (block,)
        self.folded = FoldedTable()

    @property
    def norm(self) -> nn.Module:
        """The norm in front of the attention, as the block has it now."""
        norm: nn.Module = self.block[0].norm1  # type: ignore[assignment]
        return norm


def _table(module: PromptedAttention | PromptedWindowAttention, x: Tensor, batch: int) -> Table | None:
    """The extra keys and values for input x of `batch` images; stored where that is sound."""
    prompts, tables = module.prompts, module.tables
    if not prompts.enabled:
        return None
    in_table = prompts.visual is not None and not prompts.travels
    k_norm = getattr(module, "k_norm", _IDENTITY)

    def build() -> Table | None:
        visual = prompts.masked_visual(batch) if in_table else None
        key_value = prompts.key_value(batch)
        return build_table(key_value, visual, tables.norm, module.qkv, k_norm, module.num_heads)

    if prompts.training or not can_fold(x):
        return build()
    sources = [*prompts.parameters(), *prompts.buffers()]
    if in_table:
        sources += key_value_rows(module.qkv)
        for part in (tables.norm, k_norm):
            sources += [*part.parameters(), *part.buffers()]
    return tables.folded.get(sources, build) if sources else None


_IDENTITY = nn.Identity()


class PromptedAttention(Attention):
    """timm's ViT attention plus `prompts`."""

    prompts: BlockPrompts

    def __init__(self, attention: Attention, block: nn.Module, prompts: BlockPrompts) -> None:
        take_over(self, attention)
        self.prompts = prompts
        self.tables = _Tables(block)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """x [B, N, D] -> [B, N, D]; `attn_mask` as in timm, over the image tokens."""
        return self.attend(x, x.shape[1], attn_mask, is_causal)

    def attend(
        self, x_BND: Tensor, num_queries: int, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Outputs [B, Q, D] of the first Q tokens, which look at all N tokens and at the prompts."""
        x_BQD = x_BND[:, :num_queries]
        q = self.q_norm(queries(self.qkv, x_BQD, self.num_heads))
        k, v = keys_values(self.qkv, self.k_norm, x_BND, self.num_heads)
        table = _table(self, x_BND, len(x_BND))
        if is_causal:
            attn_mask = torch.ones(
                x_BND.shape[1], x_BND.shape[1], dtype=torch.bool, device=x_BND.device
            ).tril()
            attn_mask = attn_mask[:num_queries]
        out = attend(q, k, v, table, attn_mask, self.attn_drop.p if self.training else 0.0)
        return self._project_out(out.transpose(1, 2).flatten(2), x_BQD)

    def attend_first(self, x_BND: Tensor) -> Tensor:
        """Outputs [B, 1, D] of the first token alone, as `attend(x, 1)` gives them.

        One query needs no projected keys and values of image tokens: q·(W_k x + b_k) = (W_k'q)·x + q·b_k, and
        a weighted sum of W_v x + b_v is W_v and b_v of the weighted sum of x. That is 2·N·D² products fewer.
        """
        dropping = self.training and self.attn_drop.p > 0
        if dropping or not isinstance(self.k_norm, nn.Identity):
            return self.attend(x_BND, 1)
        x_B1D = x_BND[:, :1]
        q_BHd = self.q_norm(queries(self.qkv, x_B1D, self.num_heads)).squeeze(2) * self.scale
        out_BHd = one_query(q_BHd, x_BND, self.qkv, _table(self, x_BND, len(x_BND)))
        return self._project_out(out_BHd.flatten(1).unsqueeze(1), x_B1D)

    def _project_out(self, out_BQA: Tensor, x_BQD: Tensor) -> Tensor:
        # timm grew `norm` and `gate` over time; older ones do not have them.
        norm, gate = getattr(self, "norm", None), getattr(self, "gate", None)
        if norm is not None:
            out_BQA = norm(out_BQA)
        if gate is not None:
            out_BQA = out_BQA * gate(x_BQD).sigmoid()
        projected: Tensor = self.proj_drop(self.proj(out_BQA))
        return projected


class PromptedWindowAttention(WindowAttention):
    """timm's Swin window attention plus `prompts`."""

    prompts: BlockPrompts

    def __init__(
        self, attention: WindowAttention, block: SwinTransformerBlock, prompts: BlockPrompts
    ) -> None:
        take_over(self, attention)
        self.prompts = prompts
        self.tables = _Tables(block)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x [B·W, N, D] -> [B·W, N, D]; `mask` [W, N, N] of shifted windows, or None."""
        windows = self._windows_per_image(len(x)) if self.prompts.differs_by_image else 1
        table = _table(self, x, len(x) // windows)
        return self.attend(x, None if table is None else table.for_windows(windows), mask)

    def attend(self, x_BND: Tensor, table: Table | None, mask: Tensor | None) -> Tensor:
        """Outputs [B·W, N, D] of windows x [B·W, N, D], which look at themselves and at the table."""
        q, k, v = self.queries_keys_values(x_BND)
        bias = self._get_rel_pos_bias()
        if mask is not None:
            bias = (bias + mask.unsqueeze(1)).repeat(len(x_BND) // len(mask), 1, 1, 1)
        return self.project_out(attend(q, k, v, table, bias, self.attn_drop.p if self.training else 0.0))

    def queries_keys_values(self, x_BND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each [B, H, N, d], of normed tokens [B, N, D]."""
        q = queries(self.qkv, x_BND, self.num_heads)
        return q, *keys_values(self.qkv, _IDENTITY, x_BND, self.num_heads)

    def project_out(self, out_BHNd: Tensor) -> Tensor:
        """Heads joined and projected: [B, H, N, d] -> [B, N, D]."""
        projected: Tensor = self.proj_drop(self.proj(out_BHNd.transpose(1, 2).flatten(2)))
        return projected

    def _windows_per_image(self, num_windows: int) -> int:
        """Windows an image is cut into, from the block's fixed input size."""
        block = self.tables.block[0]
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
