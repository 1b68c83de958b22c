"""Rewinding brings back what was."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from support.backbones_for_tests import images_for, randomise
from support.pruning_for_tests import each_model, made, some
from torch import Tensor, nn
from torch.nn import functional as F

import e2vpt
from e2vpt.errors import ConfigError
from e2vpt.pruning.applying import apply
from e2vpt.pruning.rewinding import rewind, snapshot

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("tokens", [0.5, 0.0])
@each_model
def test_rewinding_returns_to_the_beginning(kind: str, tokens: float) -> None:
    model = made(kind)
    images, origin = images_for(model), snapshot(model)
    first, before = copy.deepcopy(model), model(images)
    selection = some(model, tokens=tokens, segments=0.5, key_value=tokens)
    randomise(model.get_classifier(), seed=7)
    apply(model, selection)
    rewind(model, origin)
    assert model(images).equal(before)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {
        n for n, p in first.named_parameters() if p.requires_grad
    }
    for layer, other in zip(e2vpt.prompt_layers(model), e2vpt.prompt_layers(first), strict=True):
        assert (layer.key is layer.value) == (other.key is other.value)
    rewind(model, origin, selection)
    apply(first, selection)
    assert model(images).equal(first(images))


def test_a_snapshot_is_a_copy() -> None:
    model = made()
    images, origin = images_for(model), snapshot(model)
    before = model(images)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(1)
        rewind(model, origin)
        assert model(images).equal(before)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(1)
        rewind(model, origin)
    assert model(images).equal(before)


OPTIMIZERS = [torch.optim.AdamW, lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9)]


def tuned(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def train(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, steps: int = 3) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(images), torch.tensor([1, 2])).backward()
        optimizer.step()


@pytest.mark.parametrize("prune", [None, {"tokens": 0.5, "key_value": 0.5}, {"segments": 0.5}])
@pytest.mark.parametrize("make", OPTIMIZERS)
@each_model
def test_an_optimizer_goes_on_as_a_new_one_would(
    kind: str, make: Any, prune: dict[str, float] | None
) -> None:
    model, other = made(kind), made(kind)
    images, origin = images_for(model), snapshot(model)
    optimizer = make(tuned(model), lr=0.01)
    train(model, optimizer, images)
    apply(model, some(model, tokens=0.5), optimizer)
    train(model, optimizer, images)
    rewind(model, origin, optimizer=optimizer)
    selection = None if prune is None else some(model, **prune)
    rewind(model, origin, selection, optimizer)
    if selection is not None:
        apply(other, selection)
    train(model, optimizer, images)
    train(other, make(tuned(other), lr=0.01), images)
    for mine, theirs in zip(tuned(model), tuned(other), strict=True):
        assert torch.equal(mine, theirs)
    held = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(held) == sorted(map(id, tuned(model)))
    assert set(map(id, optimizer.state)) <= set(held), "nothing of what is gone"


@each_model
def test_prompts_that_are_all_there_stay_the_optimizers(kind: str) -> None:
    model = made(kind)
    images, origin = images_for(model), snapshot(model)
    before = tuned(model)
    train(model, torch.optim.SGD(before, lr=0.01), images)
    F.cross_entropy(model(images), torch.tensor([1, 2])).backward()
    rewind(model, origin)
    assert list(map(id, tuned(model))) == list(map(id, before))
    assert all(parameter.grad is None for parameter in before), "gradients of other values"


def test_an_optimizer_that_lost_its_prompts_is_refused() -> None:
    model = made()
    origin, optimizer = snapshot(model), torch.optim.SGD(tuned(model), lr=0.01)
    apply(model, some(model, key_value=0.0), optimizer)
    with pytest.raises(ConfigError, match=r"all prompts \(key\) of block 1, .*Rewind without `optimizer`"):
        rewind(model, origin, optimizer=optimizer)
    rewind(model, origin)
    assert e2vpt.prompt_layers(model)[0].num_kv == 3
