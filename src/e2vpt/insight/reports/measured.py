"""What a model says of labelled images, kept image by image: every figure of a report comes from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from e2vpt.data import Split
from e2vpt.runs.models.task_model import TaskModel
from e2vpt.training.evaluate import Metrics, metrics_of


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Measured:
    """A model's answers to the images of one split.

    Attributes:
        split: its name.
        images: with labels.
        logits: [n, C], float64.
    """

    split: str
    images: Split
    logits: Tensor

    @property
    def labels(self) -> Tensor:
        """Class numbers [n]."""
        return torch.tensor(self.images.labels)

    @property
    def probabilities(self) -> Tensor:
        """[n, C], each row summing to 1."""
        return self.logits.softmax(1)

    @property
    def metrics(self) -> Metrics:
        """The figures that `e2vpt eval` prints."""
        return metrics_of(self.logits, self.labels)


def measure_images(
    model: TaskModel,
    images: Split,
    split: str,
    *,
    batch_size: int = 64,
    on_images: Callable[[int, int], None] | None = None,
) -> Measured:
    """Ask a model about every image once; `on_images` is told (done, total).

    Raises:
        UnreadableImages: an image does not decode.
        AdapterError: logits that are not finite numbers.
    """
    parts: list[Tensor] = []
    model.measure(images, batch_size=batch_size, on_images=on_images, on_logits=parts.append)
    logits = torch.cat(parts)
    model.check_finite(logits.numpy())
    return Measured(split=split, images=images, logits=logits)
