"""fit(): the loop against plain PyTorch, and against itself interrupted."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
import torch
from support.tasks_for_tests import batches, tiny_vit
from torch import Tensor, nn
from torch.nn import functional as F

import e2vpt
from e2vpt import TrainConfig, evaluate, fit
from e2vpt.errors import ConfigError, DataError, Diverged, RunError
from e2vpt.files.container import read_container, write_container
from e2vpt.training.checkpoint import Progress, Row, load_checkpoint, save_checkpoint, trained_state
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


@pytest.mark.parametrize("validates", [True, False])
@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 1e30), ("sgd", 1e38), ("adamw", 1e38)])
def test_nothing_is_written_of_a_training_that_leaves_no_numbers(
    tmp_path: Path, optimizer: str, lr: float, validates: bool
) -> None:
    """Without validation nobody has seen what the last step made; its loss came before."""
    path, model, told = tmp_path / "checkpoint.safetensors", tiny_vit(torch.float32), []
    data = batches([6], torch.float32)
    settings = config(epochs=3, optimizer=optimizer, lr=lr, warmup=0.0)
    with pytest.raises(Diverged, match=r"Epoch \d gave .* not a finite number.*Lower the learning rate"):
        fit(model, data, data if validates else None, settings, checkpoint=path, on_epoch=told.append)
    if path.exists():
        assert all(bool(t.isfinite().all()) for t in read_container(path)[1].values())
        assert len(load_history(path)) == len(told[-1])
    else:
        assert not told


def test_a_broken_optimizer_state_is_not_kept(tmp_path: Path) -> None:
    """Its next steps would be of no number, or none at all."""
    model = nn.Linear(1, 2, bias=False)
    loud = [(torch.full((2, 1), 1e25), torch.tensor([0, 1]))]
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Diverged, match="a parameter or its gradients"):
        fit(model, loud, config=config(epochs=1, lr=1e-30), checkpoint=path)
    assert not path.exists()


def test_a_checkpoint_holds_as_many_epochs_as_there_are(tmp_path: Path) -> None:
    path, model = tmp_path / "checkpoint.safetensors", nn.Linear(2, 2)
    settings = config(epochs=20_000)
    row = {"epoch": 0, "lr": 1 / 3, "train_loss": 0.1, "train_accuracy": 0.5}
    progress = Progress(history=[row | {"epoch": i + 1} for i in range(20_000)], best={}, best_epoch=7)
    optimizer, scaler = (
        torch.optim.SGD(model.parameters(), lr=1.0),
        torch.amp.GradScaler("cpu", enabled=False),
    )
    save_checkpoint(path, model, optimizer, scaler, progress, settings)
    assert load_checkpoint(path, model, optimizer, scaler, settings) == progress


def test_resume_tells_the_history_it_goes_on_from(tmp_path: Path) -> None:
    """A kill may come between a checkpoint and what a caller writes after it."""
    path, told = tmp_path / "checkpoint.safetensors", []
    result = fit(tiny_vit(), batches([5]), config=config(), checkpoint=path)
    model = tiny_vit()
    states: list[dict[str, Tensor]] = []

    def record(history: list[Row]) -> None:
        told.append(list(history))
        states.append(trained_state(model))

    fit(model, batches([5]), config=config(), checkpoint=path, resume=True, on_epoch=record)
    assert told == [result.history]
    saved = read_container(path)[1]
    assert all(torch.equal(tensor, saved[f"model.{name}"]) for name, tensor in states[0].items())


def test_a_compiled_model_resumes_as_a_plain_one_and_back(tmp_path: Path) -> None:
    path, start = tmp_path / "checkpoint.safetensors", tiny_vit()
    whole, first, second = (copy.deepcopy(start) for _ in range(3))
    settings, data = config(epochs=2), batches([5, 4])
    fit(whole, data, data, settings)

    def kill(report: StepReport) -> None:
        if report.epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        fit(torch.compile(first, backend="eager"), data, data, settings, checkpoint=path, on_step=kill)
    fit(second, data, data, settings, checkpoint=path, resume=True)
    same(whole, second)


def test_a_checkpoint_without_its_parts_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    fit(tiny_vit(), batches([5]), config=config(), checkpoint=path)
    header, tensors, _ = read_container(path)
    for part in ("best_epoch", "scaler"):
        write_container(path, {k: v for k, v in header.items() if k != part}, tensors)
        with pytest.raises(RunError, match=f"Cannot resume: .*not whole.*{part}"):
            fit(tiny_vit(), batches([5]), config=config(), checkpoint=path, resume=True)
    write_container(path, header, {k: v for k, v in tensors.items() if k != "history"})
    with pytest.raises(RunError, match=r"Cannot resume: .*history"):
        fit(tiny_vit(), batches([5]), config=config(), checkpoint=path, resume=True)


class Convolved(nn.Module):
    """A model whose head nobody can know before it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).flatten(1)  # type: ignore[no-any-return]


def test_labels_that_do_not_fit_the_head_are_refused_before_a_step() -> None:
    (images, _), *_ = batches([4], torch.float32)
    headless, replaced = tiny_vit(torch.float32), tiny_vit(torch.float32)
    headless.reset_classifier(0)
    replaced.head = nn.Linear(24, 4)  # the model still says that it has 3 classes
    compiled = torch.compile(tiny_vit(torch.float32), backend="eager")
    for model, labels, low, high, outputs in (
        (tiny_vit(torch.float32), [0, 1, 2, 3], 0, 3, 3),
        (tiny_vit(torch.float32), [-1, 1, 2, 0], -1, 2, 3),
        (compiled, [0, 1, 2, 7], 0, 7, 3),
        (headless, [0, 1, 0, 1], 0, 1, 0),
        (replaced, [0, 1, 4, 1], 0, 4, 4),
        (Convolved(), [0, 1, 2, 1], 0, 2, 2),
    ):
        before = trained_state(model)
        data = Labelled([(images, torch.tensor(labels))])
        for loader in (data, list(data)):
            with pytest.raises(
                ConfigError, match=f"from {low} to {high}; the model's head has {outputs} outputs"
            ):
                fit(model, loader, config=config(epochs=1))
        with pytest.raises(
            ConfigError, match=f"from {low} to {high}; the model's head has {outputs} outputs"
        ):
            evaluate(model, data)
        assert all(torch.equal(tensor, before[name]) for name, tensor in trained_state(model).items())
    fit(replaced, [(images, torch.tensor([0, 1, 2, 3]))], config=config(epochs=1))


def test_batches_that_are_no_pairs_are_refused() -> None:
    (images, labels), *_ = batches([3])
    for batch, message in (
        ({"image": images, "label": labels}, "the loader gave a dict of 2"),
        (images, "the loader gave a Tensor of 3"),
        ((images, labels, labels), "the loader gave a tuple of 3"),
        (([1, 2], labels), "the loader gave a tuple of 2"),
        ((images, labels[:2]), r"expected \[3\] of int64, found \[2\] of int64"),
        ((images, labels.float()), r"found \[3\] of float32"),
        ((images, F.one_hot(labels, 3)), r"found \[3, 3\] of int64"),
        ((images, ["a", "b", "c"]), "Labels are whole numbers.*found \\['a'"),
    ):
        for run in (lambda b: fit(tiny_vit(), [b], config=config()), lambda b: evaluate(tiny_vit(), [b])):
            with pytest.raises(ConfigError, match=message):
                run(batch)


def test_any_whole_numbers_are_labels() -> None:
    (images, labels), *_ = batches([6])
    models = [tiny_vit() for _ in range(3)]
    for model, given in zip(
        models[1:], (labels.to(torch.uint8), labels.numpy().astype("int16")), strict=True
    ):
        model.load_state_dict(models[0].state_dict())
        assert evaluate(model, [(images, given)]) == evaluate(models[0], [(images, labels)])
        fit(model, [(images, given)], config=config(epochs=1))
    fit(models[0], [(images, labels)], config=config(epochs=1))
    same(models[0], models[1])
    same(models[0], models[2])


def load_history(path: Path) -> list[object]:
    history: list[object] = json.loads(bytes(read_container(path)[1]["history"].tolist()))
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


def test_prompts_that_wait_for_images_are_not_trained(tmp_path: Path) -> None:
    waiting = tiny_vit(init="patch")
    for more in ({}, {"checkpoint": tmp_path / "none", "resume": True}):
        with pytest.raises(ConfigError, match=r"Call e2vpt\.init_from_images"):
            fit(waiting, batches([4]), config=config(epochs=1), **more)  # type: ignore[arg-type]
    e2vpt.init_from_images(waiting, batches([4])[0][0])
    fit(waiting, batches([4]), config=config(epochs=1))
