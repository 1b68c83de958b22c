"""The method in models with one sequence: ViT, Eva and BEiT."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from support.oracles.attention import PlainAttention, PlainRotaryAttention
from support.oracles.carried import carried, under_its_head
from torch import Tensor, nn

import e2vpt


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
    plain = under_its_head(backbone, model)
    x = plain.norm_pre(plain.patch_drop(plain._pos_embed(plain.patch_embed(images))))

    def run(index: int, layer: nn.Module, x: Tensor, extra: int) -> Tensor:
        block = plain.blocks[index]
        block.attn = PlainAttention(block.attn, layer.key, layer.value, extra)
        return block(x, **mask)

    features = plain.norm(carried(model, x, drawn, run))
    return features, plain.forward_head(features)


def eva_oracle(
    backbone: nn.Module,
    model: nn.Module,
    images: Tensor,
    drawn: Sequence[Tensor | None] | None = None,
    **mask: Tensor | bool,
) -> tuple[Tensor, Tensor]:
    """(features [B, N, D], logits [B, C]) of an Eva; `drawn` as for `vit_oracle`."""
    plain = under_its_head(backbone, model)
    x, rope = plain._pos_embed(plain.patch_embed(images))

    def run(index: int, layer: nn.Module, x: Tensor, extra: int) -> Tensor:
        block = plain.blocks[index]
        block.attn = PlainRotaryAttention(block.attn, layer.key, layer.value, extra)
        return block(x, rope=rope[index] if plain.rope_mixed else rope, **mask)

    features = plain.norm(carried(model, plain.norm_pre(x), drawn, run))
    return features, plain.forward_head(features)


def beit_oracle(
    backbone: nn.Module, model: nn.Module, images: Tensor, drawn: Sequence[Tensor | None] | None = None
) -> Tensor:
    """Logits [B, C] of a BEiT: no bias by position on prompts, or on what looks from them."""
    plain = under_its_head(backbone, model)
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

    return plain.forward_head(plain.norm(carried(model, x, drawn, run)))


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
