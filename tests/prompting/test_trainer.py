"""Hugging Face's Trainer takes a prompted model: trains, saves, resumes and reloads it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, load_model
from support.tasks_for_tests import TINY_PREPROCESSING, batches, tiny_vit
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Trainer, TrainingArguments

import e2vpt

pytestmark = pytest.mark.usefixtures("one_thread")


class ForTrainer(nn.Module):
    """What Trainer expects of a model: arguments by name, and the loss first."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.model(pixel_values)
        return F.cross_entropy(logits, labels), logits


def trainer(folder: Path, epochs: int) -> Trainer:
    torch.manual_seed(0)
    model = ForTrainer(tiny_vit(torch.float32))
    data = [
        {"pixel_values": torch.randn(3, 16, 16), "labels": torch.tensor(number % 3)} for number in range(12)
    ]
    arguments = TrainingArguments(
        str(folder),
        num_train_epochs=epochs,
        per_device_train_batch_size=4,
        lr_scheduler_type="constant",
        save_strategy="epoch",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    return Trainer(model, arguments, train_dataset=data)


def test_it_saves_and_resumes(tmp_path: Path) -> None:
    whole, first, second = trainer(tmp_path / "a", 2), trainer(tmp_path / "b", 1), trainer(tmp_path / "b", 2)
    whole.train()
    first.train()
    second.train(resume_from_checkpoint=True)
    states = [made.model.state_dict() for made in (whole, first, second)]
    assert all(value.equal(states[2][name]) for name, value in states[0].items())
    assert not all(value.equal(states[1][name]) for name, value in states[0].items())
    assert all(layer.key is layer.value for layer in e2vpt.prompt_layers(second.model.model))
    whole.save_model(str(tmp_path / "saved"))
    stored = load_file(tmp_path / "saved/model.safetensors")
    assert stored.keys() == states[0].keys()
    assert all(value.equal(states[0][name]) for name, value in stored.items())


def test_a_saved_model_reloads_to_equal_logits(tmp_path: Path) -> None:
    trained = trainer(tmp_path / "run", 2)
    trained.train()
    trained.save_model(str(tmp_path / "saved"))
    ((images, labels),) = batches([5], torch.float32)
    fresh = ForTrainer(tiny_vit(torch.float32))
    expected = trained.model.eval()(images, labels)[1]
    assert not fresh.eval()(images, labels)[1].equal(expected)
    assert load_model(fresh, str(tmp_path / "saved/model.safetensors")) == (set(), [])
    assert fresh(images, labels)[1].equal(expected)
    assert all(layer.key is layer.value for layer in e2vpt.prompt_layers(fresh.model))


def test_a_trained_model_becomes_an_adapter(tmp_path: Path) -> None:
    trained = trainer(tmp_path / "run", 1)
    trained.train()
    model = trained.model.model.eval()
    e2vpt.save_adapter(model, tmp_path / "task.safetensors", preprocessing=TINY_PREPROCESSING)
    again, _ = e2vpt.load_adapter(tmp_path / "task.safetensors", copy.deepcopy(model))
    ((images, _),) = batches([5], torch.float32)
    assert again(images).equal(model(images))
