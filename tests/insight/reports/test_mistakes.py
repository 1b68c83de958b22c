"""Confusion, mistakes and doubts of answers that are known."""

from __future__ import annotations

import numpy as np
import torch

from e2vpt.data import ImageInMemory, Split
from e2vpt.insight.reports.measured import Measured
from e2vpt.insight.reports.mistakes import confusion, judged, most_confused, most_doubtful, worst_mistakes

PROBABILITIES = [[0.9, 0.05, 0.05], [0.6, 0.3, 0.1], [0.05, 0.15, 0.8], [0.34, 0.33, 0.33], [0.1, 0.7, 0.2]]
LABELS = (0, 1, 1, 0, 2)


def measured() -> Measured:
    images = tuple(ImageInMemory(name=f"{i}.png", pixels=np.zeros((8, 8, 3), np.uint8)) for i in range(5))
    logits = torch.tensor(PROBABILITIES, dtype=torch.float64).log()
    return Measured(split="test", images=Split(images=images, labels=LABELS), logits=logits)


def test_confusion_has_a_row_for_each_truth() -> None:
    assert confusion(measured()).tolist() == [[2, 0, 0], [1, 0, 1], [0, 1, 0]]
    assert measured().metrics.accuracy == 0.4


def test_most_confused_leaves_right_answers_out() -> None:
    pairs = most_confused(confusion(measured()), 2)
    assert [(p.truth, p.said, p.count, p.share) for p in pairs] == [(1, 0, 1, 0.5), (1, 2, 1, 0.5)]
    assert most_confused(torch.eye(3, dtype=torch.int64), 5) == []


def test_worst_mistakes_are_sure_and_wrong_and_doubts_are_close() -> None:
    images = judged(measured())
    assert [j.index for j in worst_mistakes(images, 2)] == [2, 4]
    assert [j.index for j in most_doubtful(images, 1)] == [3]
    assert (images[2].p_truth, images[2].second) == (measured().probabilities[2, 1].item(), 1)
