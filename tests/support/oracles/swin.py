"""The method in a Swin of either version, one image and one window at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from support.oracles.attention import PlainAttention
from support.oracles.carried import rows_of
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.swin_transformer_v2 import WindowAttention as CosineWindowAttention
from torch import Tensor, nn
from torch.nn import functional as F

import e2vpt


def swin_oracle(
    backbone: nn.Module,
    model: nn.Module,
    images: Tensor,
    drawn: Sequence[Tensor | None] | None = None,
    *,
    pool_prompts: bool = False,
) -> Tensor:
    """Logits [B, C] of a Swin, one image and one window at a time."""
    one = [
        _swin_image(
            backbone, model, image[None], [_of_image(d, i) for d in drawn] if drawn else None, pool_prompts
        )
        for i, image in enumerate(images)
    ]
    return torch.cat(one)


def _of_image(drawn: Tensor | None, index: int) -> Tensor | None:
    return drawn if drawn is None or drawn.dim() == 2 else drawn[index]


def _swin_image(
    backbone: nn.Module,
    model: nn.Module,
    image: Tensor,
    drawn: list[Tensor | None] | None,
    pool_prompts: bool,
) -> Tensor:
    layers = iter(enumerate(e2vpt.prompt_layers(model)))
    x, travelling, rows = backbone.patch_embed(image)[0], None, None
    for stage in backbone.layers:
        x = stage.downsample(x[None])[0]
        if travelling is not None and not isinstance(stage.downsample, nn.Identity):
            four, merge = torch.cat([travelling] * 4, dim=-1), stage.downsample
            is_second = isinstance(backbone, SwinTransformerV2)
            travelling = merge.norm(merge.reduction(four)) if is_second else merge.reduction(merge.norm(four))
        for block in stage.blocks:
            index, layer = next(layers)
            own = rows_of(layer, None if drawn is None else drawn[index])
            travelling = own if layer.travels and own is not None else travelling
            x, rows = _swin_block(block, layer, x, travelling if layer.travels else own)
            travelling = rows if layer.travels else None
    tokens = x.flatten(0, 1)
    if pool_prompts and rows is not None:
        tokens = torch.cat([rows, tokens])
    return model.head.fc(backbone.norm(tokens).mean(0))[None]


def _swin_block(
    block: nn.Module, layer: nn.Module, x_hwD: Tensor, rows_pD: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """The grid and the prompt rows after a block; a row's attention is its mean over the windows."""
    height, width, _ = x_hwD.shape
    (win_h, win_w), (shift_h, shift_w) = block.window_size, block.shift_size
    is_second = isinstance(block.attn, CosineWindowAttention)  # of Swin: its norms come last
    (before, after) = (nn.Identity(), block.norm1)[:: 1 if is_second else -1]

    def mlp(x: Tensor) -> Tensor:
        return block.norm2(block.mlp(x)) if is_second else block.mlp(block.norm2(x))

    normed = torch.roll(before(x_hwD), (-shift_h, -shift_w), dims=(0, 1))
    normed = F.pad(normed, (0, 0, 0, -width % win_w, 0, -height % win_h))
    out, outs, window = torch.zeros_like(normed), [], 0
    for top in range(0, normed.shape[0], win_h):
        for left in range(0, normed.shape[1], win_w):
            cut = (slice(top, top + win_h), slice(left, left + win_w))
            mask = None if block.attn_mask is None else block.attn_mask[window]
            extra = None if rows_pD is None else before(rows_pD)
            tokens, prompts = _swin_window(block.attn, layer, normed[cut].flatten(0, 1), extra, mask)
            out[cut] = tokens.reshape(win_h, win_w, -1)
            outs.append(prompts)
            window += 1
    x_hwD = x_hwD + after(torch.roll(out[:height, :width], (shift_h, shift_w), dims=(0, 1)))
    x_hwD = x_hwD + mlp(x_hwD)
    if rows_pD is None:
        return x_hwD, None
    rows_pD = rows_pD + after(torch.stack(outs).mean(0))
    return x_hwD, rows_pD + mlp(rows_pD)


def _swin_window(
    attention: nn.Module, layer: nn.Module, x_ND: Tensor, extra_pD: Tensor | None, mask_NN: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Attention of one window whose sequence starts with the prompt rows; no bias on any prompt."""
    extra = 0 if extra_pD is None else len(extra_pD)
    if isinstance(attention, CosineWindowAttention):
        by_offset = attention.cpb_mlp(attention.relative_coords_table).flatten(0, 2)
        bias = 16 * by_offset[attention.relative_position_index].sigmoid().permute(2, 0, 1)
    else:
        bias = attention._get_rel_pos_bias()[0]
    bias = bias if mask_NN is None else bias + mask_NN
    sequence = x_ND if extra_pD is None else torch.cat([extra_pD, x_ND])
    full = bias.new_zeros(len(bias), len(sequence), len(sequence))
    full[:, extra:, extra:] = bias
    out = PlainAttention(attention, layer.key, layer.value)(sequence[None], full[None])[0]
    return out[extra:], out[:extra]
