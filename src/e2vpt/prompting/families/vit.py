"""What a prompted ViT does beyond its attention: shallow prompts travel, and the last block computes only
the class token where only logits are wanted.

Shapes: B images, N tokens, D model width.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor

from e2vpt.prompting.families.edges import Edge, install_edges
from e2vpt.prompting.families.logits import LogitsForward, Steps, are_tokens
from e2vpt.prompting.families.vit_attention import PromptedAttention


class EdgeBlock(Edge, Block):
    """The first or last block of a ViT (both, where there is one)."""

    def class_token(self, x: Tensor) -> Tensor:
        """The block's output for the class token only: x [B, N, D] -> [B, 1, D].

        Exact: after the last block nothing reads the other rows. Saves their queries, projection and MLP.
        """
        x = self.enter(x)
        attention = self.attn
        assert isinstance(attention, PromptedAttention)
        token = x[:, :1] + self.drop_path1(self.ls1(attention.attend_first(self.norm1(x))))
        out: Tensor = token + self.drop_path2(self.ls2(self.mlp(self.norm2(token))))
        return out


class FirstTokens:
    """`first_tokens` of a prompted ViT. An object that holds its model, as `LogitsForward`."""

    def __init__(self, model: VisionTransformer) -> None:
        self.model: Any = model

    @torch.no_grad()
    def compute(self, images: Tensor) -> Tensor:
        """What enters the first block with prompts, for images [B, 3, h, w]: [B, N, D].

        Without chance (dropout, stochastic depth, patch dropout) it is always the same for an image.
        """
        x, _ = _begin(self.model, images)
        for block in self.model.blocks[: self.model.prompt_config.first_block]:
            x = block(x)
        return x


def _begin(model: Any, x: Tensor) -> tuple[Tensor, Steps]:
    if are_tokens(model, x):
        return x, [(block, {}) for block in model.blocks[model.prompt_config.first_block :]]
    x = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(x))))
    return x, [(block, {}) for block in model.blocks]


def install_short_path(model: VisionTransformer) -> None:
    """Replace the first and last block, and `forward`, of a ViT whose attention is prompted already."""
    install_edges(model, {Block: EdgeBlock}, always=True)
    model.forward = LogitsForward(model, _begin).forward  # type: ignore[method-assign]
    model.first_tokens = FirstTokens(model).compute  # type: ignore[assignment]
