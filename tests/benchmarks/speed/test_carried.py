"""The official form and ours compute the same, gradients included: what is timed is one function."""

from __future__ import annotations

import copy

import pytest
import torch
from support.backbones_for_tests import (
    gradients,
    images_for,
    prompted,
    relative,
    tiny_eva,
    tiny_swin,
    tiny_vit,
)
from torch import nn

import e2vpt
from e2vpt.benchmarks.speed.carried import CarriedForm
from e2vpt.errors import ConfigError
from e2vpt.prompting.prompts import BlockPrompts

pytestmark = pytest.mark.usefixtures("one_thread")

EXACT = 1e-12
BACKBONES = {
    "vit": lambda: tiny_vit(),
    "registers": lambda: tiny_vit(reg_tokens=2),
    "qk-norm": lambda: tiny_vit(qk_norm=True),
    "scale-norm": lambda: tiny_vit(scale_attn_norm=True, scale_mlp_norm=True),
    "swin": lambda: tiny_swin(),
    "swin-padded": lambda: tiny_swin(img_size=24),
}
PROMPTS = {
    "mixed": {"num_visual": 4, "num_kv": 3},
    "separate-kv": {"num_visual": 4, "num_kv": 3, "share_kv": False},
    "visual-only": {"num_visual": 4, "num_kv": 0},
    "kv-only": {"num_visual": 0, "num_kv": 3},
}


def both(backbone: nn.Module, fused: bool, **prompts: object) -> tuple[nn.Module, nn.Module]:
    ours = prompted(backbone, **prompts)
    return ours, CarriedForm(with_head_of(ours, backbone), e2vpt.prompt_layers(ours), fused=fused)


def with_head_of(ours: nn.Module, backbone: nn.Module) -> nn.Module:
    plain = copy.deepcopy(backbone)
    plain.head = ours.head
    return plain


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("prompts", PROMPTS)
@pytest.mark.parametrize("name", BACKBONES)
def test_logits_and_gradients_are_ours(name: str, prompts: str, fused: bool) -> None:
    backbone = BACKBONES[name]()
    ours, official = both(backbone, fused, **PROMPTS[prompts])
    images = images_for(backbone, batch=3)
    found, expected = ours(images), official(images)
    assert relative(found, expected) < EXACT
    weights = torch.randn_like(expected)
    mine, theirs = gradients(ours, (found * weights).sum()), gradients(ours, (expected * weights).sum())
    scale = max(float(g.abs().max()) for g in theirs.values())
    assert {n for n in theirs if not float((mine[n] - theirs[n]).abs().max()) < EXACT * scale} == set()
    assert any(float(g.abs().max()) > 0 for n, g in theirs.items() if "prompts" in n)


def test_rows_are_really_carried() -> None:
    """Every block but the attention of ours sees p more tokens."""
    _, official = both(tiny_vit(), False, num_visual=4, num_kv=3)
    seen = []
    for block in official.timm.blocks:
        block.mlp.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    official(images_for(tiny_vit()))
    assert seen == [21, 21, 21]


def test_shallow_prompts_are_refused() -> None:
    layer = BlockPrompts(num_visual=2, num_kv=0, width=48, num_heads=3, head_dim=16, travels=True)
    with pytest.raises(ConfigError, match="for deep prompts"):
        CarriedForm(tiny_vit(), [layer] * 3, fused=False)


def test_backbones_that_the_official_code_does_not_know_are_refused() -> None:
    ours = prompted(tiny_eva(), num_visual=2)
    with pytest.raises(ConfigError, match=r"no form of Eva .*--methods linear,full,lora,e2vpt"):
        CarriedForm(tiny_eva(), e2vpt.prompt_layers(ours), fused=True)
