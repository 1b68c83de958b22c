"""Prompts that are switched off leave timm's model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.backbones_for_tests import (
    MODELS,
    images_for,
    prompted,
    relative,
)
from torch import nn

import e2vpt
from e2vpt.prompting.prompts import BlockPrompts

pytestmark = pytest.mark.usefixtures("one_thread")


def made(kind: str, dtype: torch.dtype = torch.float64, **config: Any) -> nn.Module:
    make, options = MODELS[kind]
    return prompted(make(dtype), **({"num_visual": 3, "num_kv": 2} | options | config))


@pytest.mark.parametrize("kind", ["vit-shallow", "swin-shallow-pooled"])
def test_disabled_travelling_and_pooled_prompts_leave_timm(kind: str) -> None:
    backbone, model = MODELS[kind][0](), made(kind)
    images = images_for(backbone)
    before = model(images)
    with e2vpt.disabled(model):
        assert relative(model(images), backbone(images)) < 1e-12
        assert relative(model.forward_features(images), backbone.forward_features(images)) < 1e-12
        assert relative(type(model).forward(model, images), backbone(images)) < 1e-12
    assert torch.equal(model(images), before)


def stop(layers: list[BlockPrompts]) -> None:
    assert not any(layer.enabled for layer in layers)
    raise RuntimeError("stop")


def test_disabled_restores_each_layer_even_after_an_error() -> None:
    model = made("vit")
    first, second, third = e2vpt.prompt_layers(model)
    second.enabled = False
    with pytest.raises(RuntimeError, match="stop"), e2vpt.disabled(model):
        stop([first, second, third])
    assert (first.enabled, second.enabled, third.enabled) == (True, False, True)
