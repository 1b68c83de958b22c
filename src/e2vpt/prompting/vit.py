"""What a prompted ViT does beyond its attention: shallow prompts travel, and the last block computes only
the class token where only logits are wanted.

Shapes: B images, N tokens, p visual prompts, D model width, C classes.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from e2vpt.prompting.edges import Edge, travelling
from e2vpt.prompting.vit_attention import PromptedAttention


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


class LogitsForward:
    """`forward` of a prompted ViT: images [B, 3, h, w], or tokens [B, N, D], -> [B, C].

    A method of an object that holds its model, so that it follows deepcopy, pickle and export. With
    class-token pooling the last block computes one row; any other pooling, a mask, or a hook that waits for
    all rows of the last block takes timm's own path.
    """

    def __init__(self, model: VisionTransformer) -> None:
        # timm types its children as Tensor | Module.
        self.model: Any = model

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Logits [B, C]; further arguments as in timm."""
        model, are_tokens = self.model, x.dim() == 3
        pools_class_token = model.global_pool == "token" and model.attn_pool is None
        has_short_path = pools_class_token and not self._is_watched()
        if args or kwargs or not (has_short_path or are_tokens):
            logits: Tensor = type(model).forward(model, x, *args, **kwargs)
            return logits
        *body, last = model.blocks
        if are_tokens:
            body = body[model.prompt_config.first_block :]
        else:
            x = self._embed(x)
        recompute = model.grad_checkpointing and torch.is_grad_enabled()
        for run in [*body, last.class_token if has_short_path else last]:
            x = checkpoint(run, x, use_reentrant=False) if recompute else run(x)
        logits = model.forward_head(model.norm(x))
        return logits

    @torch.no_grad()
    def first_tokens(self, images: Tensor) -> Tensor:
        """What enters the first block with prompts, for images [B, 3, h, w]: [B, N, D].

        Without chance (dropout, stochastic depth, patch dropout) it is always the same for an image.
        """
        x = self._embed(images)
        for block in self.model.blocks[: self.model.prompt_config.first_block]:
            x = block(x)
        return x

    def _embed(self, images: Tensor) -> Tensor:
        model = self.model
        x: Tensor = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images))))
        return x

    def _is_watched(self) -> bool:
        """Whether hooks sit on what the short path goes around, or gives one row instead of all."""
        model = self.model
        last = model.blocks[-1]
        return any(
            part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks
            for part in (model.blocks, last, last.attn, model.norm)
        )


def install_short_path(model: VisionTransformer) -> None:
    """Replace the first and last block, and `forward`, of a ViT whose attention is prompted already."""
    blocks: Any = model.blocks
    prompts, last = travelling(blocks[0]), len(blocks) - 1
    for index in {0, last}:
        enters, leaves = (prompts if index == place else None for place in (0, last))
        blocks[index] = EdgeBlock(blocks[index], enters=enters, leaves=leaves)
    logits = LogitsForward(model)
    model.forward = logits.forward  # type: ignore[method-assign]
    model.first_tokens = logits.first_tokens  # type: ignore[assignment]
