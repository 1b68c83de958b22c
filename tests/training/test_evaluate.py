"""Metrics, against counting by hand."""

from __future__ import annotations

import pytest
import torch
from support.tasks_for_tests import batches, tiny_vit
from torch import Tensor, nn
from torch.nn import functional as F

from e2vpt import evaluate
from e2vpt.errors import ConfigError, DataError


class Fixed(nn.Module):
    """Logits that are the input itself: [B, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.num_classes = 3
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_counts_by_hand() -> None:
    logits = torch.tensor([[2.0, 0, 0], [0, 2, 0], [2, 0, 0], [0, 0, 2]])
    labels = torch.tensor([0, 1, 1, 1])
    metrics = evaluate(Fixed(), [(logits[:3], labels[:3]), (logits[3:], labels[3:])])
    assert (metrics.accuracy, metrics.num_images) == (0.5, 4)
    # Class 2 has no image and does not count; class 1 has one of three right.
    assert metrics.mean_class_accuracy == pytest.approx((1 + 1 / 3) / 2)
    assert metrics.loss == pytest.approx(float(F.cross_entropy(logits.double(), labels)))


def test_does_not_depend_on_how_images_are_batched() -> None:
    model = tiny_vit().train()
    (images, labels), *_ = batches([11])
    whole = evaluate(model, [(images, labels)])
    apart = evaluate(model, list(zip(images.split(4), labels.split(4), strict=True)))
    assert whole.accuracy == apart.accuracy
    assert whole.loss == pytest.approx(apart.loss, rel=1e-12)


def test_a_process_without_images_gets_the_metrics_of_all() -> None:
    """Three processes, one after another; the last one, whose share is empty, has the whole sum."""
    model = tiny_vit()
    (images, labels), *_ = batches([11])
    summed: list[Tensor] = []

    def reduce(counts: Tensor) -> Tensor:
        summed.append(counts)
        return torch.stack(summed).sum(0)

    for share in (slice(0, 7), slice(7, 11)):
        evaluate(model, [(images[share], labels[share])], reduce=reduce)
    together, whole = evaluate(model, [], reduce=reduce), evaluate(model, [(images, labels)])
    assert together.num_images == 11
    assert together.accuracy == whole.accuracy
    assert together.mean_class_accuracy == whole.mean_class_accuracy
    assert together.loss == pytest.approx(whole.loss, rel=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_runs_in_eval_mode_and_restores_it(training: bool) -> None:
    model = tiny_vit(dropout=0.9).train(training)
    data = batches([6])
    assert evaluate(model, data) == evaluate(model, data)
    assert model.training is training
    done: list[int] = []
    evaluate(model, data, on_batch=done.append)
    assert done == [6]


def test_every_module_comes_back_in_its_own_mode() -> None:
    """A frozen part is often held in eval mode while the rest trains."""
    model = tiny_vit().train()
    model.blocks[0].eval()
    before = {name: module.training for name, module in model.named_modules()}
    evaluate(model, batches([4]))
    assert {name: module.training for name, module in model.named_modules()} == before
    with pytest.raises(DataError):
        evaluate(model, [])
    with pytest.raises(ConfigError):
        evaluate(model, [(torch.zeros(1, 3, 16, 16).double(), torch.tensor([9]))])
    assert {name: module.training for name, module in model.named_modules()} == before


def test_no_images_are_an_error() -> None:
    model = Fixed().train()
    for empty in ([], iter([]), [(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))]):
        with pytest.raises(DataError, match=r"gave no images.*Pass a loader with at least one batch"):
            evaluate(model, empty)
    with pytest.raises(DataError, match="gave no images"):
        evaluate(model, [], reduce=lambda counts: counts)  # no process has an image
    assert model.training
