"""fit(): the loop against plain PyTorch, and against itself interrupted."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from support.tasks_for_tests import batches, tiny_vit
from torch import Tensor, nn
from torch.nn import functional as F

from e2vpt import TrainConfig, fit
from e2vpt.errors import ConfigError, DataError, RunError
from e2vpt.files.container import read_container
from e2vpt.training.checkpoint import trained_state
from e2vpt.training.step_report import StepReport


def config(**values: object) -> TrainConfig:
    return TrainConfig(**({"epochs": 2, "lr": 0.01} | values))  # type: ignore[arg-type]


def same(a: nn.Module, b: nn.Module, tolerance: float = 0.0) -> None:
    for (name, x), (_, y) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
        assert torch.allclose(x, y, rtol=tolerance, atol=tolerance), name


class Labelled(list[tuple[Tensor, Tensor]]):
    """Batches with the `labels` of the whole split."""

    @property
    def labels(self) -> list[int]:
        return [int(y) for _, labels in self for y in labels]


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
    assert result.best_epoch == ranks.index(max(ranks))
    assert result.history[result.best_epoch]["val_accuracy"] > 0.9
    assert all(torch.equal(p, states[result.best_epoch][n]) for n, p in trained_state(model).items())


def test_without_validation_the_last_epoch_is_kept() -> None:
    result = fit(tiny_vit(), batches([6]), config=config(epochs=3))
    assert result.best_epoch == 2
    assert set(result.history[0]) == {"epoch", "lr", "train_loss", "train_accuracy"}


def test_patience_without_validation_images_is_refused() -> None:
    with pytest.raises(ConfigError, match="patience needs validation images"):
        fit(tiny_vit(), batches([6]), config=config(patience=3))


def test_patience_ends_a_training_that_does_not_improve() -> None:
    result = fit(tiny_vit(), batches([6]), batches([20], seed=1), config(epochs=50, lr=0.0, patience=3))
    assert (len(result.history), result.best_epoch) == (4, 0)


class Killed(Exception):
    """Stands for a power cut at a given optimizer step."""


@pytest.mark.parametrize("step", [1, 4, 5, 8])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_resume_equals_uninterrupted(tmp_path: Path, optimizer: str, step: int) -> None:
    torch.manual_seed(1)
    start = tiny_vit(dropout=0.3)
    settings = config(epochs=3, optimizer=optimizer, seed=5)
    data, val = batches([4, 4, 4]), batches([9], seed=1)
    whole, broken, resumed = (copy.deepcopy(start) for _ in range(3))
    expected = fit(whole, data, val, settings)

    seen = 0

    def kill(_: StepReport) -> None:
        nonlocal seen
        seen += 1
        if seen == step:
            raise Killed

    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Killed):
        fit(broken, data, val, settings, checkpoint=path, on_step=kill)
    torch.manual_seed(99)  # A new process starts with another random state.
    found = fit(resumed, data, val, settings, checkpoint=path, resume=True)
    assert found == expected
    same(whole, resumed)


def test_resuming_a_finished_training_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    model = tiny_vit()
    again = copy.deepcopy(model)
    first = fit(model, batches([5]), batches([5]), config(), checkpoint=path)
    assert fit(again, batches([5]), batches([5]), config(), checkpoint=path, resume=True) == first
    same(model, again)


def test_resume_refuses_other_settings_parameters_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    fit(tiny_vit(), batches([5]), config=config(), checkpoint=path)
    with pytest.raises(RunError, match=r"other settings: lr 0\.01 -> 0\.5"):
        fit(tiny_vit(), batches([5]), config=config(lr=0.5), checkpoint=path, resume=True)
    with pytest.raises(RunError, match="other parameters than this model trains"):
        fit(tiny_vit(num_visual=5), batches([5]), config=config(), checkpoint=path, resume=True)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(RunError, match=r"Cannot resume.*damaged"):
        fit(tiny_vit(), batches([5]), config=config(), checkpoint=path, resume=True)


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


def test_a_training_that_breaks_stops_and_keeps_what_was(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    data = batches([5])

    def poison(_: object) -> None:
        data[0][0].fill_(math.nan)

    with pytest.raises(
        RunError, match=r"Epoch 2 gave train_loss that is not a finite number.*Lower the learning"
    ):
        fit(tiny_vit(), data, config=config(epochs=3), checkpoint=path, on_epoch=poison)
    assert len(load_history(path)) == 1


def load_history(path: Path) -> list[object]:
    history: list[object] = read_container(path)[0]["history"]
    return history


def test_bad_calls_say_what_to_do() -> None:
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        fit(tiny_vit(), batches([4]), config=config(precision="fp16"))
    frozen = tiny_vit().requires_grad_(False)
    with pytest.raises(ConfigError, match="no parameter of this model requires grad"):
        fit(frozen, batches([4]), config=config())
    with pytest.raises(DataError, match="no batch"):
        fit(tiny_vit(), [], config=config())
    with pytest.raises(ConfigError, match="needs a training loader with `labels`"):
        fit(tiny_vit(), batches([4]), config=config(class_weights="balanced"))
    with pytest.raises(ConfigError, match="Linear has no set_grad_checkpointing"):
        fit(nn.Linear(2, 2), batches([4]), config=config(grad_checkpointing=True))


def test_a_batch_size_beside_ones_own_loader_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="batch_size=8 has no effect"):
        fit(tiny_vit(), batches([4]), config=config(epochs=1, batch_size=8))
