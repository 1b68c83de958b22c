"""What a loader gives, held to what a model takes: images, and labels that its head has an output for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from e2vpt.backbones.families import unwrapped
from e2vpt.errors import ConfigError


def checked_batch(batch: Any) -> tuple[Tensor, Tensor]:
    """A batch of a loader as images and labels [B], these of the kind that a loss takes.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(batch, (tuple, list)) or len(batch) != 2 or not isinstance(batch[0], Tensor):
        found = (
            f"{type(batch).__name__} of {len(batch)}" if hasattr(batch, "__len__") else type(batch).__name__
        )
        raise ConfigError(f"A batch is a pair (images, labels) of tensors; the loader gave a {found}.")
    images = batch[0]
    try:
        labels = torch.as_tensor(batch[1])
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"Labels are whole numbers, one for each image; found {batch[1]!r:.80}.") from error
    kind = labels.dtype
    if labels.shape != images.shape[:1] or kind.is_floating_point or kind.is_complex or kind == torch.bool:
        raise ConfigError(
            f"Labels are whole numbers, one for each image: expected [{len(images)}] of int64, found "
            f"{list(labels.shape)} of {str(kind).removeprefix('torch.')}."
        )
    return images, labels.long()


def num_outputs(model: nn.Module) -> int | None:
    """Outputs of the linear head of a timm model, 0 without a head; None where the head is not known."""
    plain: Any = unwrapped(model)
    head = unwrapped(plain.get_classifier()) if callable(getattr(plain, "get_classifier", None)) else None
    if isinstance(head, nn.Linear):
        return head.out_features
    return 0 if isinstance(head, nn.Identity) else None


def check_labels(labels: Tensor, outputs: int | None) -> None:
    """See that a head of so many outputs has one for every label.

    Raises:
        ConfigError: it has not.
    """
    if outputs is None or not labels.numel():
        return
    low, high = (int(value) for value in labels.aminmax())
    if low < 0 or high >= outputs:
        raise ConfigError(
            f"The labels go from {low} to {high}; the model's head has {outputs} outputs, counted from 0. "
            f"Make the model with num_classes={max(high + 1, 1)}, or mend the labels."
        )
