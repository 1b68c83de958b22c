"""The method as the official code computes it: prompt rows carried in the sequence of every block.

The oracle of the rewrite, and what it is measured against. Same parameters, same logits, same gradients as
the prompted model: the rows' own queries, projections and MLP are computed and thrown away after each block.

Shapes: B images, h·w grid, W windows an image, N tokens, p visual prompts, m key-value prompts, H heads,
d head width, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from e2vpt.errors import ConfigError
from e2vpt.prompting.families.swin import from_windows, to_windows, window_mask
from e2vpt.prompting.prompts import BlockPrompts
from e2vpt.prompting.sites import find_sites


class CarriedAttention(nn.Module):
    """timm's attention, key-value prompts in front of the other keys.

    Written out as in the official code, or, with `fused`, by PyTorch's fused kernel.
    """

    timm: Any  # timm types its children as Tensor | Module.

    def __init__(self, attention: nn.Module, prompts: BlockPrompts, *, fused: bool) -> None:
        super().__init__()
        self.timm = attention
        self.prompts = prompts
        self.fused = fused

    def forward(self, x_BND: Tensor, bias: Tensor | None = None, **unused: Any) -> Tensor:
        """x [B, N, D] -> [B, N, D]; `bias` [B, H, N, N] or broadcast to it, none on key-value prompts."""
        timm, batch = self.timm, len(x_BND)
        qkv = torch.unflatten(timm.qkv(x_BND), -1, (3, timm.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        if hasattr(timm, "q_norm"):
            q, k = timm.q_norm(q), timm.k_norm(k)
        own = self.prompts.key_value(batch)
        if own is not None:
            key, value = (part.to(k.dtype).expand(batch, -1, -1, -1) for part in own)
            k, v = torch.cat([key, k], dim=2), torch.cat([value, v], dim=2)
            bias = None if bias is None else F.pad(bias, (key.shape[2], 0))
        if self.fused:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        else:
            scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
            out = (scores if bias is None else scores + bias).softmax(dim=-1).to(v.dtype) @ v
        out = out.transpose(1, 2).flatten(2)
        # timm grew `norm` and `gate` over time; windows do not have them.
        if getattr(timm, "norm", None) is not None:
            out = timm.norm(out)
        if getattr(timm, "gate", None) is not None:
            out = out * timm.gate(x_BND).sigmoid()
        projected: Tensor = timm.proj(out)
        return projected


class CarriedForm(nn.Module):
    """A plain backbone, changed, that carries the deep prompts of `layers`: [B, 3, h, w] -> [B, C].

    A ViT's sequence is [prefix, prompts, patches] in every block. Every window of a Swin starts with the
    prompt rows, averaged over the windows of its own image afterwards (the official code mixes images,
    reference.md section 2); their last output is not pooled.

    Raises:
        ConfigError: the prompts are shallow, or the official code knows no backbone of this class.
    """

    timm: Any

    def __init__(self, backbone: nn.Module, layers: Sequence[BlockPrompts], *, fused: bool) -> None:
        if any(layer.travels for layer in layers):
            raise ConfigError("The carried form is for deep prompts.")
        if type(backbone) not in (VisionTransformer, SwinTransformer):
            raise ConfigError(
                f"The official code has no form of {type(backbone).__name__} to measure: leave out carried, "
                "as in --methods linear,full,lora,e2vpt."
            )
        super().__init__()
        self.timm = backbone
        for site, layer in zip(find_sites(backbone), layers, strict=True):
            block: Any = site.block
            block.attn = CarriedAttention(block.attn, layer, fused=fused)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images."""
        timm = self.timm
        blocks = _through_swin if isinstance(timm, SwinTransformer) else _through_vit
        logits: Tensor = timm.forward_head(timm.norm(blocks(timm, timm.patch_embed(images))))
        return logits


def _through_vit(timm: Any, x: Tensor) -> Tensor:
    x = timm.norm_pre(timm._pos_embed(x))
    front, carried = timm.num_prefix_tokens, 0
    for block in timm.blocks:
        rows = _rows(block.attn.prompts, x)
        x = block(torch.cat([x[:, :front], rows, x[:, front + carried :]], dim=1))
        carried = rows.shape[1]
    return x


def _through_swin(timm: Any, x: Tensor) -> Tensor:
    for stage in timm.layers:
        x = stage.downsample(x)
        for block in stage.blocks:
            x = _swin_block(block, x)
    return x


def _rows(prompts: BlockPrompts, x: Tensor) -> Tensor:
    """A block's visual prompts for every image: [B, p, D]."""
    if prompts.visual is None:
        return x.new_empty(len(x), 0, x.shape[-1])
    return prompts.masked_visual(len(x)).to(x.dtype).expand(len(x), -1, -1)


def _swin_block(block: Any, x_BhwD: Tensor) -> Tensor:
    batch, rows_BpD = len(x_BhwD), _rows(block.attn.prompts, x_BhwD)
    p = rows_BpD.shape[1]
    x_BND = torch.cat([rows_BpD, x_BhwD.flatten(1, 2)], dim=1)
    normed = block.norm1(x_BND)
    windows = to_windows(block, normed[:, p:].view_as(x_BhwD))
    in_front = normed[:, :p].repeat_interleave(len(windows) // batch, 0)
    bias, mask = block.attn.timm._get_rel_pos_bias(), window_mask(block, x_BhwD)
    if mask is not None:
        bias = (bias + mask.unsqueeze(1)).repeat(batch, 1, 1, 1)
    bias = F.pad(bias, (p, 0, p, 0)).to(normed.dtype)
    out = block.attn(torch.cat([in_front, windows], dim=1), bias)
    rows = torch.unflatten(out[:, :p], 0, (batch, -1)).mean(1)
    grid = from_windows(block, out[:, p:], x_BhwD).flatten(1, 2)
    x_BND = x_BND + torch.cat([rows, grid], dim=1)
    out_BND: Tensor = x_BND + block.mlp(block.norm2(x_BND))
    return out_BND[:, p:].view_as(x_BhwD)
