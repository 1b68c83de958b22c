"""fit(): the loop against plain PyTorch, and what it keeps and reports."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from support.fitting_for_tests import Labelled, config, same
from support.tasks_for_tests import batches, tiny_vit
from torch import Tensor
from torch.nn import functional as F

from e2vpt import fit
from e2vpt.errors import ConfigError
from e2vpt.training.checkpoint import trained_state
from e2vpt.training.step_report import StepReport


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_equals_a_plain_pytorch_loop(optimizer: str) -> None:
    model = tiny_vit()
    expected = copy.deepcopy(model)
    data = Labelled(batches([5, 4, 4]))
    settings = config(
        epochs=3,
        optimizer=optimizer,
        class_weights="balanced",
        label_smoothing=0.1,
        warmup=0.3,
        weight_decay=0.02,
    )
    fit(model, data, config=settings)

    counts = torch.bincount(torch.tensor(data.labels), minlength=3)
    weights = len(data.labels) / (3 * counts.double())
    trained = [p for p in expected.parameters() if p.requires_grad]
    plain = (
        torch.optim.AdamW(trained, weight_decay=0.02)
        if optimizer == "adamw"
        else torch.optim.SGD(trained, momentum=0.9, weight_decay=0.02)
    )
    for step in range(9):
        images, labels = data[step % 3]
        warm = 3
        lr = 0.01 * (step + 1) / warm if step < warm else 0.005 * (1 + math.cos(math.pi * (step - warm) / 6))
        plain.param_groups[0]["lr"] = lr
        plain.zero_grad()
        F.cross_entropy(expected(images), labels, weights, label_smoothing=0.1).backward()
        plain.step()
    same(model, expected, 1e-9)


def test_learning_rate_rises_to_its_peak_and_falls_to_zero() -> None:
    result = fit(tiny_vit(), batches([4]), config=config(epochs=10, warmup=0.2))
    rates = [row["lr"] for row in result.history]
    assert rates[:3] == pytest.approx([0.005, 0.01, 0.01])
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[-1] == pytest.approx(0.005 * (1 + math.cos(math.pi * 7 / 8)))


def test_accumulation_does_not_change_the_result() -> None:
    whole, parts = tiny_vit(), None
    parts = copy.deepcopy(whole)
    data = batches([7, 6])
    split = [part for x, y in data for part in zip(x.split(3), y.split(3), strict=True)]
    fit(whole, data, config=config())
    split = split[:3] + split[3:]
    assert [len(y) for _, y in split] == [3, 3, 1, 3, 3]
    # Both steps must have the same number of parts; the second gets an empty third one.
    empty = (split[0][0][:0], split[0][1][:0])
    fit(parts, [*split, empty], config=config(accumulation=3))
    same(whole, parts, 1e-10)


def test_only_what_requires_grad_moves() -> None:
    model = tiny_vit()
    before = copy.deepcopy(model)
    fit(model, batches([6, 6]), config=config())
    for (name, new), (_, old) in zip(model.named_parameters(), before.named_parameters(), strict=True):
        assert torch.equal(new, old) != new.requires_grad, name


def test_learns_and_keeps_the_best_epoch() -> None:
    model = tiny_vit()
    val = batches([30], seed=1)
    states: list[dict[str, Tensor]] = []
    result = fit(
        model,
        batches([8, 8, 8]),
        val,
        config(epochs=12, lr=0.02),
        on_epoch=lambda _: states.append(trained_state(model)),
    )
    ranks = [(row["val_accuracy"], -row["val_loss"]) for row in result.history]
    assert result.best_epoch == ranks.index(max(ranks)) + 1
    assert result.best["val_accuracy"] > 0.9 and result.best["epoch"] == result.best_epoch
    assert all(torch.equal(p, states[result.best_epoch - 1][n]) for n, p in trained_state(model).items())


def test_without_validation_the_last_epoch_is_kept() -> None:
    result = fit(tiny_vit(), batches([6]), config=config(epochs=3))
    assert result.best_epoch == 3
    assert set(result.history[0]) == {"epoch", "lr", "train_loss", "train_accuracy"}


def test_patience_without_validation_images_is_refused() -> None:
    with pytest.raises(ConfigError, match="patience needs validation images"):
        fit(tiny_vit(), batches([6]), config=config(patience=3))


def test_patience_ends_a_training_that_does_not_improve() -> None:
    result = fit(tiny_vit(), batches([6]), batches([20], seed=1), config(epochs=50, lr=0.0, patience=3))
    assert (len(result.history), result.best_epoch) == (4, 1)


def test_bf16_computes_in_half_and_trains_full_precision_prompts() -> None:
    full, half = tiny_vit(torch.float32), None
    half = copy.deepcopy(full)
    data = batches([8, 8], torch.float32)
    a = fit(full, data, config=config()).history
    b = fit(half, data, config=config(precision="bf16")).history
    assert all(p.dtype == torch.float32 for p in half.parameters())
    assert a != b
    assert b[-1]["train_loss"] == pytest.approx(a[-1]["train_loss"], rel=0.05)


def test_gradient_checkpointing_gives_the_same_numbers() -> None:
    plain, recomputed = tiny_vit(dropout=0.2), None
    recomputed = copy.deepcopy(plain)
    fit(plain, batches([6]), config=config())
    fit(recomputed, batches([6]), config=config(grad_checkpointing=True))
    assert recomputed.grad_checkpointing is True
    same(plain, recomputed, 1e-12)


def test_reports_tell_where_the_training_is() -> None:
    reports: list[StepReport] = []
    fit(tiny_vit(), batches([4, 4]), config=config(), on_step=reports.append)
    assert [(r.epoch, r.step, r.epochs, r.steps) for r in reports] == [
        (1, 1, 2, 2),
        (1, 2, 2, 2),
        (2, 1, 2, 2),
        (2, 2, 2, 2),
    ]
    assert reports[-1].seconds_left == 0
    assert all(r.images_per_second > 0 and 0 <= r.accuracy <= 1 and r.memory > 0 for r in reports)
