"""The method done the plain way, with timm's own blocks: prompt rows really stand in the sequence.

Nothing of e2vpt computes here. An oracle takes the backbone as it was before `prompt()` and the prompted
model's parameters, so gradients of both reach the same tensors.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
from timm.layers import apply_rot_embed_cat
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.swin_transformer_v2 import WindowAttention as CosineWindowAttention
from torch import Tensor, nn
from torch.nn import functional as F

import e2vpt


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


def vit_oracle(
    backbone: nn.Module,
    model: nn.Module,
    images: Tensor,
    drawn: Sequence[Tensor | None] | None = None,
    **mask: Tensor | bool,
) -> tuple[Tensor, Tensor]:
    """(features [B, N, D], logits [B, C]) of a ViT.

    `drawn` replaces each block's masked visual prompts, [B, p, D] or [p, D].
    """
    plain = _under_its_head(backbone, model)
    x = plain.norm_pre(plain.patch_drop(plain._pos_embed(plain.patch_embed(images))))

    def run(index: int, layer: nn.Module, x: Tensor, extra: int) -> Tensor:
        block = plain.blocks[index]
        block.attn = PlainAttention(block.attn, layer.key, layer.value, extra)
        return block(x, **mask)

    features = plain.norm(_carried(model, x, drawn, run))
    return features, plain.forward_head(features)


def _under_its_head(backbone: nn.Module, model: nn.Module) -> nn.Module:
    plain = copy.deepcopy(backbone)
    plain.head = model.head
    return plain


def _carried(
    model: nn.Module,
    x: Tensor,
    drawn: Sequence[Tensor | None] | None,
    run: Callable[[int, nn.Module, Tensor, int], Tensor],
) -> Tensor:
    """Tokens [B, N, D] through all blocks, each block's prompt rows in front of them.

    `run` computes one block: its number, its prompts, the sequence, how many prompt rows stand in it.
    """
    travelling = 0
    for index, layer in enumerate(e2vpt.prompt_layers(model)):
        rows = _rows(layer, None if drawn is None else drawn[index])
        extra = 0 if rows is None else rows.shape[-2]
        if rows is not None:
            x = torch.cat([rows.expand(len(x), -1, -1), x], dim=1)
        travelling = extra if layer.travels and extra else travelling
        x = run(index, layer, x, extra or travelling)
        if not layer.travels:
            x = x[:, extra:]
    return x[:, travelling:]


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


def eva_oracle(
    backbone: nn.Module,
    model: nn.Module,
    images: Tensor,
    drawn: Sequence[Tensor | None] | None = None,
    **mask: Tensor | bool,
) -> tuple[Tensor, Tensor]:
    """(features [B, N, D], logits [B, C]) of an Eva; `drawn` as for `vit_oracle`."""
    plain = _under_its_head(backbone, model)
    x, rope = plain._pos_embed(plain.patch_embed(images))

    def run(index: int, layer: nn.Module, x: Tensor, extra: int) -> Tensor:
        block = plain.blocks[index]
        block.attn = PlainRotaryAttention(block.attn, layer.key, layer.value, extra)
        return block(x, rope=rope[index] if plain.rope_mixed else rope, **mask)

    features = plain.norm(_carried(model, plain.norm_pre(x), drawn, run))
    return features, plain.forward_head(features)


def beit_oracle(
    backbone: nn.Module, model: nn.Module, images: Tensor, drawn: Sequence[Tensor | None] | None = None
) -> Tensor:
    """Logits [B, C] of a BEiT: no bias by position on prompts, or on what looks from them."""
    plain = _under_its_head(backbone, model)
    x = torch.cat([plain.cls_token.expand(len(images), -1, -1), plain.patch_embed(images)], dim=1)
    x = x if plain.pos_embed is None else x + plain.pos_embed
    shared = 0.0 if plain.rel_pos_bias is None else plain.rel_pos_bias()

    def run(index: int, layer: nn.Module, x: Tensor, extra: int) -> Tensor:
        block = plain.blocks[index]
        timm = block.attn
        own = 0.0 if timm.relative_position_bias_table is None else timm._get_rel_pos_bias()
        bias = own + shared
        attention = PlainAttention(timm, layer.key, layer.value, extra)
        x = x + block.gamma_1 * attention(block.norm1(x), bias if isinstance(bias, Tensor) else None)
        return x + block.gamma_2 * block.mlp(block.norm2(x))

    return plain.forward_head(plain.norm(_carried(model, x, drawn, run)))


def carried_by_timm(backbone: nn.Module, model: nn.Module, images: Tensor) -> Tensor:
    """Features [B, N, D] of an Eva with visual prompts only, which are prefix tokens of timm's attention."""
    plain = copy.deepcopy(backbone)
    x, rope = plain._pos_embed(plain.patch_embed(images))
    x = plain.norm_pre(x)
    for index, (block, layer) in enumerate(zip(plain.blocks, e2vpt.prompt_layers(model), strict=True)):
        rows = (layer.visual * layer.keep).expand(len(x), -1, -1)
        block.attn.num_prefix_tokens += rows.shape[1]
        x = block(torch.cat([rows, x], dim=1), rope=rope[index] if plain.rope_mixed else rope)
        x = x[:, rows.shape[1] :]
    return plain.norm(x)


def _rows(layer: nn.Module, drawn: Tensor | None) -> Tensor | None:
    if layer.visual is None:
        return None
    return layer.visual * layer.keep if drawn is None else drawn


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
            own = _rows(layer, None if drawn is None else drawn[index])
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
        rows = _rows(layer, None if drawn is None else drawn[index])
        block.attn = GatedAttention(block.attn, block.norm1, layer, rows)
    return plain(images)
