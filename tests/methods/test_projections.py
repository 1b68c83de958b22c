"""Attention that would read its projection's weight calls it: what is put there has an effect."""

from __future__ import annotations

import copy

import pytest
import torch
from support.backbones_for_tests import images_for, relative, tiny_eva, tiny_vit, tuned
from timm.models.eva import EvaAttention
from torch import nn

from e2vpt.config import MethodConfig
from e2vpt.methods.adapt import adapt
from e2vpt.methods.projections import CallingAttention, call_projections

pytestmark = pytest.mark.usefixtures("one_thread")


def kinds(model: nn.Module) -> set[type[nn.Module]]:
    return {type(block.attn) for block in model.blocks}  # type: ignore[union-attr]


def test_results_stay_the_same() -> None:
    backbone = tiny_eva()
    model, images = copy.deepcopy(backbone), images_for(backbone)
    call_projections(model)
    assert kinds(model) == {CallingAttention}
    assert relative(model(images), backbone(images)) < 1e-12
    assert model.state_dict().keys() == backbone.state_dict().keys()


@pytest.mark.parametrize(
    "model", [tiny_vit(), tiny_eva(qkv_bias=False), tiny_eva(qkv_fused=False), tiny_eva(attn_type="rope")]
)
def test_attention_that_calls_them_already_is_left_alone(model: nn.Module) -> None:
    before = kinds(model)
    call_projections(model)
    assert kinds(model) == before and CallingAttention not in before


def test_scales_without_prompts_have_an_effect() -> None:
    backbone = tiny_eva()
    assert kinds(backbone) == {EvaAttention}
    model = adapt(copy.deepcopy(backbone), "bias", options=MethodConfig(beside="scale"))
    images = images_for(backbone)
    # The head is fresh in neither.
    assert relative(model(images), backbone(images)) < 1e-12
    model(images).square().sum().backward()
    silent = [name for name, p in tuned(model).items() if p.grad is None or not torch.any(p.grad)]
    assert silent == []
