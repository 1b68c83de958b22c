"""What comes before the first prompted block, computed once for each image instead of in every epoch."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from e2vpt.data.loaders import Loader
from e2vpt.prompting.parts import evaluating
from e2vpt.training.frozen import HeldFrozen


def num_prefix_bytes(model: nn.Module, num_images: int) -> int:
    """Bytes of what enters the first prompted block of a ViT, in float32."""
    assert isinstance(model, VisionTransformer)
    side: Any = model.patch_embed
    tokens = side.num_patches + model.num_prefix_tokens
    return int(4 * num_images * tokens * model.embed_dim)


def first_tokens(model: nn.Module, images: Tensor) -> Tensor:
    """What enters the first prompted block of a prompted ViT, [B, N, D]: it takes that in place of images."""
    tokens: Tensor = model.first_tokens(images)  # type: ignore[operator]
    return tokens


def with_prefix(
    loader: Loader, model: nn.Module, device: torch.device, autocast: torch.dtype | None
) -> Loader:
    """Batches of tokens [b, N, D] in place of images, for a prompted ViT, which takes either.

    Without augmentation nothing changes but the rounding of sums over another batch. They are kept in float32
    on the CPU, also where autocast computed them.
    """

    def compute(images: Tensor) -> Tensor:
        with torch.autocast(device.type, autocast, enabled=autocast is not None):
            return first_tokens(model, images.to(device)).float().cpu()

    with evaluating(model.to(device)), HeldFrozen(model, autocast):
        return loader.computed(compute)
