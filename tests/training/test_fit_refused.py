"""Labels, batches and settings that fit() refuses before a step, and those that are fine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.fitting_for_tests import Labelled, config, same
from support.tasks_for_tests import batches, tiny_vit
from torch import Tensor, nn
from torch.nn import functional as F

import e2vpt
from e2vpt import evaluate, fit
from e2vpt.errors import ConfigError, DataError
from e2vpt.training.checkpoint import trained_state


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
