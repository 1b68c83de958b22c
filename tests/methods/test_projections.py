"""Attention that would read its projection's weight calls it: what is put there has an effect."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from support.backbones_for_tests import (
    images_for,
    relative,
    tiny_beit,
    tiny_eva,
    tiny_swin,
    tiny_swin_v2,
    tiny_vit,
    tuned,
)
from torch import nn

from e2vpt.config import MethodConfig
from e2vpt.methods.adapt import adapt
from e2vpt.methods.projections import Calling, call_projections

pytestmark = pytest.mark.usefixtures("one_thread")


CALLS: list[dict[str, Any]] = [{"qkv_bias": False}, {"qkv_fused": False}, {"attn_type": "rope"}]
READS: dict[str, Any] = {"eva": tiny_eva, "beit": tiny_beit, "swin-v2": tiny_swin_v2}
each_that_reads = pytest.mark.parametrize("kind", READS)


def attentions(model: nn.Module) -> set[type[nn.Module]]:
    return {type(module.attn) for module in model.modules() if hasattr(module, "attn")}


@each_that_reads
def test_results_stay_the_same(kind: str) -> None:
    backbone = READS[kind]()
    model, images = copy.deepcopy(backbone), images_for(backbone)
    call_projections(model)
    assert all(issubclass(found, Calling) for found in attentions(model))
    assert relative(model(images), backbone(images)) < 1e-12
    assert model.state_dict().keys() == backbone.state_dict().keys()


@pytest.mark.parametrize(
    "make",
    [tiny_vit, tiny_swin, *(partial(tiny_eva, **each) for each in CALLS), partial(tiny_beit, qkv_bias=False)],
)
def test_attention_that_calls_them_already_is_left_alone(make: Any) -> None:
    model = make()
    before = attentions(model)
    call_projections(model)
    assert attentions(model) == before and not any(issubclass(found, Calling) for found in before)


@each_that_reads
def test_scales_without_prompts_have_an_effect(kind: str) -> None:
    backbone = READS[kind]()
    model = adapt(copy.deepcopy(backbone), "bias", options=MethodConfig(beside="scale"))
    images = images_for(backbone)
    assert relative(model(images), backbone(images)) < 1e-12
    model(images).square().sum().backward()
    silent = [name for name, p in tuned(model).items() if p.grad is None or not torch.any(p.grad)]
    assert silent == []
