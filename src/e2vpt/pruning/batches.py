"""What a loader gives, held to what scores are computed from.

Shapes: B images, C classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from e2vpt.errors import ConfigError


def scored_batch(batch: Any) -> tuple[Tensor, Tensor]:
    """A loader's batch as images [B, 3, h, w] and labels [B] of int64.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(batch, (tuple, list)) or len(batch) != 2 or not isinstance(batch[0], Tensor):
        raise ConfigError(
            f"A batch is a pair (images, labels) of tensors; the loader gave a {type(batch).__name__}."
        )
    images, given = batch
    try:
        labels = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"Labels are whole numbers, one for each image; found {given!r:.80}.") from error
    kind = labels.dtype
    if labels.shape != images.shape[:1] or kind.is_floating_point or kind.is_complex or kind == torch.bool:
        raise ConfigError(
            f"Labels are whole numbers, one for each image: expected [{len(images)}] of int64, found "
            f"{list(labels.shape)} of {str(kind).removeprefix('torch.')}."
        )
    return images, labels.long()


def check_within_head(labels: Tensor, num_classes: int) -> None:
    """See that a head of so many classes has one for every label.

    Raises:
        ConfigError: one is not.
    """
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise ConfigError(
            f"The labels go from {int(labels.min())} to {int(labels.max())}; the model has {num_classes} "
            "classes, counted from 0. Score with the images that it was trained on, or mend the labels."
        )
