"""Metrics of a model over a loader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from e2vpt.backbones.batches import check_labels, checked_batch, num_outputs
from e2vpt.errors import DataError, check_type
from e2vpt.prompting.parts import evaluating
from e2vpt.training.steps import Batches

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Metrics:
    """What a model got right.

    Attributes:
        accuracy: share of images whose highest logit is the label's, 0 to 1.
        mean_class_accuracy: the same for each class that has images, averaged over classes.
        loss: mean cross-entropy, in nats.
        num_images: images counted.
    """

    accuracy: float
    mean_class_accuracy: float
    loss: float
    num_images: int


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loader: Batches,
    *,
    reduce: Callable[[Tensor], Tensor] | None = None,
    autocast: torch.dtype | None = None,
    on_batch: Callable[[int], None] | None = None,
    on_logits: Callable[[Tensor], None] | None = None,
) -> Metrics:
    """Run a model in eval mode over a loader; afterwards every module is back in its own mode.

    `reduce` sums a tensor over processes that each see a share of the images; `autocast` is the precision of
    the forward pass; `on_batch` is told how many images were done, `on_logits` what was said of
    each, [b, C] in float64 on the CPU.

    Raises:
        DataError: the loader gave no image; with `reduce`, the loaders of all processes together.
        ConfigError: a batch is not (images, labels), or its labels are not of this model's head.
    """
    check_type("model", model, nn.Module)
    check_type("loader", loader, Iterable)
    device, outputs = next(model.parameters()).device, num_outputs(model)
    hits_misses_loss: Tensor | None = None

    def logits_and_labels() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in loader:
            images, labels = checked_batch(batch)
            with torch.autocast(device.type, autocast, enabled=autocast is not None):
                yield model(images.to(device, non_blocking=True)), labels
            if on_batch is not None:
                on_batch(len(labels))

    with evaluating(model):
        for logits, labels in _one_behind(logits_and_labels()):
            labels = labels.cpu()
            check_labels(labels, logits.shape[1] if outputs is None else outputs)
            logits = logits.cpu().double()
            if on_logits is not None:
                on_logits(logits)
            counts = _count(logits, labels)
            hits_misses_loss = counts if hits_misses_loss is None else hits_misses_loss + counts
    if outputs is None and reduce is not None:
        found = 0 if hits_misses_loss is None else hits_misses_loss.shape[1]
        columns, processes = reduce(torch.tensor([found, found > 0], dtype=torch.float64)).tolist()
        outputs = round(columns / max(1, processes))
    if hits_misses_loss is None:  # a process may have no image; it still takes part in the sum
        hits_misses_loss = torch.zeros(3, outputs or 0, dtype=torch.float64)
    return _metrics(hits_misses_loss if reduce is None else reduce(hits_misses_loss))


def _one_behind(items: Iterator[T]) -> Iterator[T]:
    """The same items, each given once the next one is made: a GPU then works while one is looked at."""
    waiting = list(islice(items, 1))
    for item in items:
        yield waiting.pop()
        waiting.append(item)
    yield from waiting


def _count(logits: Tensor, labels: Tensor) -> Tensor:
    """Hits, misses and summed loss of each class: [3, C], float64, so that sums do not depend on order."""
    correct = (logits.argmax(1) == labels).double()
    losses = F.cross_entropy(logits, labels, reduction="none")
    counts = logits.new_zeros(3, logits.shape[1])
    for row, values in enumerate((correct, 1 - correct, losses)):
        counts[row].index_add_(0, labels, values)
    return counts


def metrics_of(logits: Tensor, labels: Tensor) -> Metrics:
    """Metrics of logits [n, C] of images with these labels [n]."""
    return _metrics(_count(logits.double(), labels))


def _metrics(counts: Tensor) -> Metrics:
    hits, misses, losses = counts
    per_class = hits + misses
    total = float(per_class.sum())
    if not total:
        raise DataError(
            "The loader gave no images, so there is nothing to measure. Pass a loader with at least one "
            "batch; a generator can be read only once."
        )
    seen = per_class > 0
    return Metrics(
        accuracy=float(hits.sum()) / total,
        mean_class_accuracy=float((hits[seen] / per_class[seen]).mean()),
        loss=float(losses.sum()) / total,
        num_images=round(total),
    )
