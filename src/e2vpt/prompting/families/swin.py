"""What a prompted Swin does beyond its attention: shallow prompts travel beside the patch grid, and the last
block's prompt rows can be pooled into the feature, as the official code does.

Prompt rows look at every window of their image and are averaged over them. (The official code averages over
windows of different images, which lets one sample change another; that is not reproduced.)

Shapes: B images, h·w grid, W windows an image, N tokens a window, p visual prompts, D block width, C classes.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from timm.models.swin_transformer import (
    PatchMerging,
    window_partition,
    window_reverse,
)
from timm.models.swin_transformer_v2 import PatchMerging as PatchMergingV2
from timm.models.swin_transformer_v2 import SwinTransformerV2Block
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from e2vpt.prompting.attend import attend
from e2vpt.prompting.families.window_attention import WindowsWithPrompts
from e2vpt.prompting.tables import (
    Projection,
    append_table,
    as_queries,
    build_table,
    for_windows,
)
from e2vpt.prompting.token_path import entry_norm, norm_of_keys


def block_with_prompts(block: Any, x_BhwD: Tensor, prompts_BpD: Tensor) -> tuple[Tensor, Tensor]:
    """One block over the grid and over live prompt rows: ([B, h, w, D], [B, p, D]) -> the same shapes.

    In the first version of Swin norms come before attention and MLP, in the second behind them.
    """
    attention, before = block.attn, entry_norm(block)
    assert isinstance(attention, WindowsWithPrompts)
    attention.check_mode()
    windows_BND = to_windows(block, before(x_BhwD))
    num_windows = windows_BND.shape[0] // x_BhwD.shape[0]
    q, kv, to_kv = attention.project(windows_BND)
    table_Bt2Hd = _live_table(attention, before, prompts_BpD, to_kv)
    out = attention.attend(q, kv, for_windows(table_Bt2Hd, num_windows), window_mask(block, x_BhwD))
    grid = from_windows(block, out, x_BhwD)
    rows = _prompt_rows(attention, before(prompts_BpD), kv, table_Bt2Hd)
    norm_after = isinstance(block, SwinTransformerV2Block)
    if norm_after:
        grid, rows = block.norm1(grid), block.norm1(rows)
    grid, rows = _drop_together(block.drop_path1, grid, rows)
    x_BhwD, prompts_BpD = x_BhwD + grid, prompts_BpD + rows
    grid, rows = (
        block.norm2(block.mlp(y)) if norm_after else block.mlp(block.norm2(y)) for y in (x_BhwD, prompts_BpD)
    )
    grid, rows = _drop_together(block.drop_path2, grid, rows)
    return x_BhwD + grid, prompts_BpD + rows


def _drop_together(drop_path: nn.Module, grid: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Stochastic depth, which skips a block for a whole image: grid [B, h, w, D] and rows [B, p, D] alike."""
    if isinstance(drop_path, nn.Identity):
        return grid, rows
    both = drop_path(torch.cat([grid.flatten(1, 2), rows], dim=1))
    return both[:, : -rows.shape[1]].view_as(grid), both[:, -rows.shape[1] :]


def _live_table(
    attention: WindowsWithPrompts, norm: nn.Module, rows_BpD: Tensor, to_kv: Projection | None
) -> Tensor:
    """The block's key-value prompts, and prompt rows as they are now: [B, t, 2, H, d]."""
    own = attention.prompts.key_value(rows_BpD.shape[0]) if attention.prompts.enabled else None
    to_kv = to_kv or attention.projections()[1]
    table = build_table(rows_BpD, own, norm, to_kv, norm_of_keys(attention), attention.num_heads)
    assert table is not None
    return table


def _prompt_rows(
    attention: WindowsWithPrompts, normed_BpD: Tensor, kv_BN2Hd: Tensor, table_Bt2Hd: Tensor
) -> Tensor:
    """Attention outputs of the prompt rows [B, p, D], the mean over the windows of their image."""
    num_windows = kv_BN2Hd.shape[0] // normed_BpD.shape[0]
    to_q, _ = attention.projections()
    q_BHpd = as_queries(to_q(normed_BpD), attention.num_heads).repeat_interleave(num_windows, 0)
    k, v = append_table(kv_BN2Hd, for_windows(table_Bt2Hd, num_windows), norm_of_keys(attention))
    dropout = attention.attn_drop.p if attention.training else 0.0
    rows = attend(attention.scaled(q_BHpd), k, v, dropout=dropout)
    return attention.project_heads(torch.unflatten(rows, 0, (-1, num_windows)).mean(1))


def window_mask(block: Any, x_BhwD: Tensor) -> Tensor | None:
    """What shifted windows may not see [W, N, N], additive; None for windows that are not shifted."""
    mask: Tensor | None = block.get_attn_mask(x_BhwD.new_empty(1, *_padded(block, x_BhwD), 1))
    return mask


def _padded(block: Any, x_BhwD: Tensor) -> tuple[int, int]:
    (height, width), (win_h, win_w) = x_BhwD.shape[1:3], block.window_size
    return -(-height // win_h) * win_h, -(-width // win_w) * win_w


def to_windows(block: Any, x_BhwD: Tensor) -> Tensor:
    """The windows of a block, shifted and padded as in timm: [B, h, w, D] -> [B·W, N, D]."""
    height, width = _padded(block, x_BhwD)
    x = torch.roll(x_BhwD, (-block.shift_size[0], -block.shift_size[1]), dims=(1, 2))
    x = F.pad(x, (0, 0, 0, width - x.shape[2], 0, height - x.shape[1]))
    return window_partition(x, block.window_size).flatten(1, 2)


def from_windows(block: Any, windows_BND: Tensor, like_BhwD: Tensor) -> Tensor:
    """The grid [B, h, w, D], shaped as `like_BhwD`, that windows [B·W, N, D] came from."""
    windows = torch.unflatten(windows_BND, 1, block.window_size)
    x = window_reverse(windows, block.window_size, *_padded(block, like_BhwD))
    x = x[:, : like_BhwD.shape[1], : like_BhwD.shape[2]]
    return torch.roll(x, block.shift_size, dims=(1, 2))


def _merge_prompts(merging: nn.Module, prompts_BpD: Tensor) -> Tensor:
    """A prompt row through patch merging, as four equal neighbours (VPT, Swin)."""
    four: Any = prompts_BpD.repeat(1, 1, 4)
    if isinstance(merging, PatchMergingV2):
        four = merging.norm(merging.reduction(four))
    elif isinstance(merging, PatchMerging):
        four = merging.reduction(merging.norm(four))
    else:
        return prompts_BpD
    return cast(Tensor, four)


class SwinFeatures:
    """`forward_features` of a Swin whose prompts are live: [B, 3, H, W] -> [B, h, w, D].

    A method of an object that holds its model, so that it follows deepcopy, pickle and export.
    """

    def __init__(self, model: nn.Module, *, pool_prompts: bool) -> None:
        # timm types its children as Tensor | Module.
        self.model: Any = model
        self.pool_prompts = pool_prompts

    def forward_features(self, x: Tensor) -> Tensor:
        """The normed grid [B, h, w, D]."""
        grid: Tensor = self.model.norm(self.rows(x)[0])
        return grid

    def rows(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The last block's grid [B, h, w, D] and prompt rows [B, p, D], before the final norm."""
        model = self.model
        rows: Tensor | None = None
        x = model.patch_embed(x)
        blocks = [block for stage in model.layers for block in stage.blocks]
        for stage in model.layers:
            x = stage.downsample(x)
            rows = None if rows is None else _merge_prompts(stage.downsample, rows)
            for block in stage.blocks:
                rows = self._entering(block, rows, x, is_last=block is blocks[-1])
                x, rows = _run(block, x, rows, stage.grad_checkpointing)
        return x, rows

    def _entering(self, block: Any, rows: Tensor | None, x: Tensor, *, is_last: bool) -> Tensor | None:
        attention = block.attn
        assert isinstance(attention, WindowsWithPrompts)
        prompts = attention.prompts
        if not prompts.enabled or not (prompts.travels or (is_last and self.pool_prompts)):
            return rows
        if prompts.visual is None:
            return rows
        return prompts.masked_visual(x.shape[0]).to(x.dtype).expand(x.shape[0], -1, -1)


def _run(block: Any, x: Tensor, rows: Tensor | None, recompute: bool) -> tuple[Tensor, Tensor | None]:
    recompute = recompute and torch.is_grad_enabled()
    if rows is None:
        return (checkpoint(block, x, use_reentrant=False) if recompute else block(x)), None
    if not recompute:
        return block_with_prompts(block, x, rows)
    result: tuple[Tensor, Tensor] = checkpoint(block_with_prompts, block, x, rows, use_reentrant=False)
    return result


class SwinLogits:
    """`forward` of a Swin whose prompt rows may be pooled: [B, 3, H, W] -> [B, C]."""

    def __init__(self, features: SwinFeatures) -> None:
        self.features = features

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, C]."""
        model = self.features.model
        grid, rows = self.features.rows(x)
        if rows is not None and self.features.pool_prompts:
            # One column of h·w + p rows: the head averages over both grid axes.
            grid = torch.cat([grid.flatten(1, 2), rows], dim=1).unsqueeze(2)
        logits: Tensor = model.forward_head(model.norm(grid))
        return logits


def install_live_prompts(model: nn.Module, *, pool_prompts: bool) -> None:
    """Replace `forward_features` and `forward` of a Swin whose attention is prompted already."""
    features = SwinFeatures(model, pool_prompts=pool_prompts)
    model.forward_features = features.forward_features  # type: ignore[assignment]
    model.forward = SwinLogits(features).forward
