"""fit() against itself interrupted: checkpoints, and trainings that go on from them."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from support.fitting_for_tests import config, same
from support.tasks_for_tests import batches, tiny_vit
from torch import Tensor, nn

from e2vpt import fit
from e2vpt.errors import RunError
from e2vpt.files.container import read_container, write_container
from e2vpt.training.checkpoint import Progress, Row, load_checkpoint, save_checkpoint, trained_state
from e2vpt.training.step_report import StepReport


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
