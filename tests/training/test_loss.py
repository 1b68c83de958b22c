"""The loss of mixed images is the mixed loss, however the batch is divided."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from support.tasks_for_tests import batches, tiny_vit
from torch import nn
from torch.nn import functional as F

from e2vpt import TrainConfig, fit
from e2vpt.errors import ConfigError
from e2vpt.training.loss import mixed, summed_hits, summed_loss, summed_weight

KEYS = (0, 1, 2)


def test_the_loss_of_mixed_labels_is_the_mixed_loss() -> None:
    images, labels = batches([8])[0]
    logits, weights = torch.randn(8, 3, dtype=torch.float64), torch.tensor([0.5, 1.0, 2.0]).double()
    ((blended, targets),) = mixed([(images, labels)], 3, 1.0, KEYS)
    share = float(targets[targets > 0].min())
    assert 0 < share < 0.5
    partners = [
        [j for j in range(8) if torch.allclose(blended[i], (1 - s) * images[i] + s * images[j])]
        for s in (share, 1 - share)
        for i in range(8)
    ]
    found = [partners[:8], partners[8:]][all(partners[8:])]
    partner = torch.tensor([one[0] for one in found])
    own = 1 - share if found == partners[:8] else share
    assert sorted(partner.tolist()) == list(range(8))
    for smoothing in (0.0, 0.1):
        one, other = (
            F.cross_entropy(logits, y, weights, reduction="sum", label_smoothing=smoothing)
            for y in (labels, labels[partner])
        )
        assert summed_loss(logits, labels, weights, smoothing).equal(one)
        assert torch.allclose(summed_loss(logits, targets, weights, smoothing), own * one + (1 - own) * other)
    whole = own * weights[labels].sum() + (1 - own) * weights[labels[partner]].sum()
    assert torch.allclose(summed_weight(targets, weights), whole)
    assert summed_weight(labels, weights).equal(weights[labels].sum())
    assert summed_weight(targets, None) == summed_weight(labels, None) == 8
    heavier = labels if own > 0.5 else labels[partner]
    assert summed_hits(logits, targets) == summed_hits(logits, heavier) == (logits.argmax(1) == heavier).sum()


def test_other_keys_mix_otherwise_and_parts_do_not_matter() -> None:
    images, labels = batches([8])[0]
    ((whole, targets),) = mixed([(images, labels)], 3, 0.4, KEYS)
    parts = mixed([(images[:5], labels[:5]), (images[5:], labels[5:])], 3, 0.4, KEYS)
    assert [len(part) for part, _ in parts] == [5, 3]
    assert torch.equal(torch.cat([part for part, _ in parts]), whole)
    assert torch.equal(torch.cat([part for _, part in parts]), targets)
    assert not torch.equal(mixed([(images, labels)], 3, 0.4, (0, 1, 3))[0][0], whole)


def test_a_training_with_mixup_learns_resumes_and_may_be_divided(tmp_path: Path) -> None:
    start = tiny_vit()
    data, val = batches([6, 6]), batches([9], seed=1)
    settings = {"epochs": 3, "lr": 0.01, "mixup": 0.5, "label_smoothing": 0.1}
    whole, broken, divided, plain = (copy.deepcopy(start) for _ in range(4))
    expected = fit(whole, data, val, TrainConfig(**settings)).history
    assert expected != fit(plain, data, val, TrainConfig(**settings | {"mixup": 0.0})).history

    def stop(history: list[dict[str, float]]) -> None:
        if len(history) == 2:
            raise KeyboardInterrupt

    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit(broken, data, val, TrainConfig(**settings), checkpoint=path, on_epoch=stop)
    found = fit(copy.deepcopy(start), data, val, TrainConfig(**settings), checkpoint=path, resume=True)
    assert found.history == expected
    halves = [part for images, y in data for part in ((images[:3], y[:3]), (images[3:], y[3:]))]
    again = fit(divided, halves, val, TrainConfig(**settings, accumulation=2)).history
    for row, other in zip(expected, again, strict=True):
        assert {name: pytest.approx(value, rel=1e-6) for name, value in row.items()} == other


def test_mixup_has_to_know_the_classes() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 3)).double()
    with pytest.raises(ConfigError, match="mixup needs a model whose head is a linear layer"):
        fit(model, batches([4]), config=TrainConfig(epochs=1, mixup=0.2))
