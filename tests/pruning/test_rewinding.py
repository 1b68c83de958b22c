"""Rewinding brings back what was."""

from __future__ import annotations

import copy

import pytest
import torch
from support.backbones_for_tests import images_for, randomise
from support.pruning_for_tests import each_model, made, some

import e2vpt
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
