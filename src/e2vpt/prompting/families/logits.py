"""Logits without what nobody reads: the last block computes the class token alone where that is pooled.

Shapes: B images, N tokens, D model width, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Steps = Sequence[tuple[Any, dict[str, Any]]]
"""Blocks to go through, each with its arguments."""
Begin = Callable[[Any, Tensor], tuple[Tensor, Steps]]
"""From a model and its images [B, 3, h, w] to tokens [B, N, D] and the blocks that they go through."""


def are_tokens(model: Any, x: Tensor) -> bool:
    """Whether x is embedded already, [B, N, D]. A single image without a batch has three sides too."""
    if x.dim() != 3:
        return False
    return tuple(x.shape[1:]) == (model.patch_embed.num_patches + model.num_prefix_tokens, model.embed_dim)


class LogitsForward:
    """`forward` of a prompted model: images [B, 3, h, w], or what enters its first block with prompts, tokens
    [B, N, D], -> [B, C].

    A method of an object that holds its model, so that it follows deepcopy, pickle and export. With
    class-token pooling the last block computes one row, by its `class_token`; any other pooling, a mask, or a
    hook that waits for all rows of the last block takes timm's own path.

    Args:
        model: whose last block has `class_token`.
        begin: embeds images; a function of a module, so that it pickles. One that takes tokens in place
            of images leads through the blocks that are left.
    """

    def __init__(self, model: nn.Module, begin: Begin) -> None:
        # timm types its children as Tensor | Module.
        self.model: Any = model
        self.begin = begin

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Logits [B, C]; further arguments as in timm."""
        model = self.model
        has_short_path = self._pools_class_token() and not self._is_watched()
        if args or kwargs or not (has_short_path or are_tokens(model, x)):
            logits: Tensor = type(model).forward(model, x, *args, **kwargs)
            return logits
        x, steps = self.begin(model, x)
        *body, (last, how) = steps
        recompute = model.grad_checkpointing and torch.is_grad_enabled()
        for run, given in [*body, (last.class_token if has_short_path else last, how)]:
            x = checkpoint(run, x, use_reentrant=False, **given) if recompute else run(x, **given)
        logits = model.forward_head(model.norm(x))
        return logits

    def _pools_class_token(self) -> bool:
        model = self.model
        if not hasattr(model.blocks[-1], "class_token"):  # blocks were taken off since
            return False
        pools = model.global_pool == "token" and getattr(model, "attn_pool", None) is None
        return pools and model.num_prefix_tokens > 0

    def _is_watched(self) -> bool:
        """Whether hooks sit on what the short path goes around, or gives one row instead of all."""
        model = self.model
        return _has_hooks(model.blocks) or _has_hooks(model.norm) or _has_hooks_inside(model.blocks[-1])


def _has_hooks(part: nn.Module) -> bool:
    return bool(
        part._forward_hooks or part._forward_pre_hooks or part._backward_hooks or part._backward_pre_hooks
    )


def _has_hooks_inside(part: nn.Module) -> bool:
    # `modules()` takes twice as long, and this is asked in every forward pass.
    return _has_hooks(part) or any(
        _has_hooks_inside(child) for child in part._modules.values() if child is not None
    )
