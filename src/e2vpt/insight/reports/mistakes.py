"""Which classes and which images a model gets wrong, or is unsure of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from e2vpt.insight.reports.measured import Measured


@dataclass(frozen=True, kw_only=True, slots=True)
class Confused:
    """Images of one class taken for another.

    Attributes:
        truth, said: class numbers.
        count: images.
        share: of the images of `truth`, 0 to 1.
    """

    truth: int
    said: int
    count: int
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """One image and what was said of it.

    Attributes:
        index: of the image in its split.
        truth, said: class numbers.
        second: the class that came next.
        p_truth, p_said, p_second: their probabilities, 0 to 1.
    """

    index: int
    truth: int
    said: int
    second: int
    p_truth: float
    p_said: float
    p_second: float


def confusion(measured: Measured) -> Tensor:
    """How many images of each class (rows) were taken for each class (columns): [C, C]."""
    num_classes = measured.logits.shape[1]
    cells = measured.labels * num_classes + measured.logits.argmax(1)
    return torch.bincount(cells, minlength=num_classes**2).view(num_classes, num_classes)


def most_confused(table_CC: Tensor, most: int) -> list[Confused]:
    """The pairs of classes with the most mistakes, most first."""
    wrong = table_CC.clone().fill_diagonal_(0)
    of_class = table_CC.sum(1).clamp(min=1)
    order = wrong.flatten().argsort(descending=True, stable=True)[:most].tolist()
    pairs = [divmod(cell, len(table_CC)) for cell in order]
    return [
        Confused(truth=t, said=s, count=int(wrong[t, s]), share=float(wrong[t, s] / of_class[t]))
        for t, s in pairs
        if wrong[t, s]
    ]


def judged(measured: Measured) -> list[Judged]:
    """Every image with the two most probable classes."""
    values, indices = measured.probabilities.topk(2, 1)
    own = measured.probabilities.gather(1, measured.labels[:, None]).squeeze(1)
    rows = zip(measured.images.labels, own.tolist(), values.tolist(), indices.tolist(), strict=True)
    return [
        Judged(index=i, truth=truth, said=said, second=second, p_truth=p, p_said=p_said, p_second=p_second)
        for i, (truth, p, (p_said, p_second), (said, second)) in enumerate(rows)
    ]


def worst_mistakes(images: list[Judged], most: int) -> list[Judged]:
    """Wrong ones, the surest first."""
    return sorted((j for j in images if j.truth != j.said), key=lambda j: -j.p_said)[:most]


def most_doubtful(images: list[Judged], most: int) -> list[Judged]:
    """Those whose two most probable classes lie closest together, right or wrong."""
    return sorted(images, key=lambda j: j.p_said - j.p_second)[:most]
