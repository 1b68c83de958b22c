"""The loss of a batch: labels as numbers, or as shares of classes where images are mixed (mixup).

Shapes: B images, C classes; labels [B], or shares of classes [B, C] that add up to one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from e2vpt.data.randomness import derived_seed, shuffled

Pairs = list[tuple[Tensor, Tensor]]
"""Images [b, 3, h, w] and labels of each part of a batch."""


def summed_loss(logits: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Cross-entropy summed over a batch, classes weighted by `weights` [C]."""
    labels = labels.to(logits.dtype) if labels.dim() == 2 else labels
    return F.cross_entropy(logits, labels, weights, label_smoothing=smoothing, reduction="sum")


def summed_weight(labels: Tensor, weights: Tensor | None) -> Tensor:
    """What a batch weighs in a mean: its images, or their class weights."""
    if weights is None:
        # Without a copy from the host, which would wait for a GPU.
        return torch.full((), float(len(labels)), device=labels.device)
    return (labels.to(weights) @ weights if labels.dim() == 2 else weights[labels]).sum()


def summed_hits(logits: Tensor, labels: Tensor) -> Tensor:
    """Images whose highest logit is that of their label, or of the label with the larger share."""
    return (logits.argmax(1) == (labels.argmax(1) if labels.dim() == 2 else labels)).sum()


def mixed(parts: Pairs, num_classes: int, alpha: float, keys: Sequence[int]) -> Pairs:
    """Every image of a batch blended with another of it, and the labels alike (mixup, arXiv 1710.09412).

    One share for the batch, from Beta(alpha, alpha). Share and partners are a fixed function of `keys` and do
    not depend on how the batch is divided into parts.
    """
    images, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    share = random.Random(derived_seed("mixup", *keys)).betavariate(alpha, alpha)
    partners = torch.tensor(shuffled(range(len(labels)), "mixup", *keys))
    targets = F.one_hot(labels, num_classes).to(images.dtype)
    images, targets = (
        share * values + (1 - share) * values[partners.to(values.device, non_blocking=True)]
        for values in (images, targets)
    )
    sizes = [len(part[1]) for part in parts]
    return list(zip(torch.split(images, sizes), torch.split(targets, sizes), strict=True))
