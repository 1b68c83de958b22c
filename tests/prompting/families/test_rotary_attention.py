"""Prompted Eva models equal the plain sequence path: prompts are prefix tokens, which are not rotated."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.backbones_for_tests import (
    GROUPED,
    NAMED,
    PROMPTS,
    assert_same,
    images_for,
    named_backbone,
    prompted,
    relative,
    tiny_eva,
)
from support.oracles.vit import carried_by_timm, eva_oracle
from support.prompting_for_tests import RowCounter
from torch import Tensor

import e2vpt
from e2vpt.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")

EXACT = 1e-12
ROPE = {"attn_type": "rope"}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "biases-beside": {},
    "biases-added": {"rope_type": "dinov3", "rope_rotate_half": True},
    "no-qkv-bias": {"qkv_bias": False},
    "three-projections": {"qkv_fused": False},
    "registers": {"num_reg_tokens": 4, "no_embed_class": True},
    "layer-scale": {"init_values": 0.1},
    "norms-inside": {"scale_attn_inner": True, "scale_mlp": True, "swiglu_mlp": True},
    "post-norm": {"use_post_norm": True},
    "pre-norm": {"use_pre_transformer_norm": True},
    "no-rope": {"use_rot_pos_emb": False},
    "rope": ROPE,
    "rope-mixed": ROPE | {"rope_type": "mixed"},
    "grouped": GROUPED,
    "token": {"global_pool": "token"},
    "token-three-projections": {"global_pool": "token", "qkv_fused": False, "init_values": 0.1},
    "token-post-norm": {"global_pool": "token", "use_post_norm": True},
    "token-registers": {"global_pool": "token", "num_reg_tokens": 4, "scale_attn_inner": True},
    "token-mixed": {"global_pool": "token"} | ROPE | {"rope_type": "mixed"},
    "token-grouped": {"global_pool": "token"} | GROUPED,
    "map": {"global_pool": "map", "class_token": False},
    "one-block": {"depth": 1},
}
CASES = [(a, p) for a in ARCHITECTURES for p in ("mixed", "shallow-visual")]
CASES += [(a, p) for a in ("biases-beside", "grouped") for p in PROMPTS if (a, p) not in CASES]
NAMES = [key for key, (name, _) in NAMED.items() if "dinov3" in name or "pe_" in name or "rope" in name]
NAMES += [key for key in NAMED if key.startswith(("eva", "sapiens"))]


@pytest.mark.parametrize(("architecture", "prompts"), CASES)
def test_logits_features_and_gradients_equal_the_sequence_path(architecture: str, prompts: str) -> None:
    backbone = tiny_eva(**ARCHITECTURES[architecture])
    model, images = prompted(backbone, **PROMPTS[prompts]), images_for(backbone)
    features, logits = eva_oracle(backbone, model, images)
    assert_same(model, model(images), logits, EXACT)
    assert_same(model, model.forward_features(images), features, EXACT)
    with torch.no_grad():  # one projection instead of two
        assert_same_values(model(images), logits)


def assert_same_values(found: Tensor, expected: Tensor) -> None:
    assert float((found - expected.detach()).abs().max()) <= EXACT * float(expected.abs().max())


@pytest.mark.parametrize("key", sorted(set(NAMES)))
def test_named_models_carry_prompts_as_prefix_tokens(key: str) -> None:
    backbone = named_backbone(key)
    model, images = prompted(backbone, num_visual=3, num_kv=0), images_for(backbone)
    assert_same(model, model.forward_features(images), carried_by_timm(backbone, model, images), 1e-9)
    model = prompted(backbone, num_visual=3, num_kv=2)
    _, logits = eva_oracle(backbone, model, images)
    assert_same(model, model(images), logits, 1e-9)


@pytest.mark.parametrize("depth", ["deep", "shallow"])
@pytest.mark.parametrize("architecture", ["biases-beside", "grouped"])
def test_dropout_is_drawn_for_every_image(architecture: str, depth: str, drawn: dict[int, Tensor]) -> None:
    backbone = tiny_eva(**ARCHITECTURES[architecture])
    model = prompted(backbone, num_visual=4, num_kv=2, dropout=0.5, visual_depth=depth).train()
    images, before = images_for(backbone, 3), drawn.copy()
    logits = model(images)
    layers = e2vpt.prompt_layers(model)
    assert before != drawn
    rows = [drawn.get(id(layer)) for layer in layers]
    _, expected = eva_oracle(backbone, model, images, rows)
    assert_same(model, logits, expected, EXACT)


@pytest.mark.parametrize("architecture", ["biases-beside", "rope-mixed", "grouped"])
def test_patches_that_are_dropped_take_their_positions_with_them(architecture: str) -> None:
    backbone = tiny_eva(**ARCHITECTURES[architecture], patch_drop_rate=0.5).train()
    model, images = prompted(backbone, num_visual=4, num_kv=2).train(), images_for(backbone)
    torch.manual_seed(0)
    logits = model(images)
    torch.manual_seed(0)
    _, expected = eva_oracle(backbone, model, images)
    assert_same(model, logits, expected, EXACT)


@pytest.mark.parametrize("kind", ["bool", "float", "causal"])
def test_masks_of_the_caller_cover_the_image_tokens_only(kind: str) -> None:
    backbone = tiny_eva()
    model, images = prompted(backbone, num_visual=4, num_kv=2), images_for(backbone)
    mask: dict[str, Any] = {
        "bool": {"attn_mask": torch.rand(17, 17, generator=torch.Generator().manual_seed(0)) < 0.7},
        "float": {"attn_mask": torch.randn(17, 17, dtype=torch.float64)},
        "causal": {"is_causal": True},
    }[kind]
    _, expected = eva_oracle(backbone, model, images, **mask)
    assert_same(model, model(images, **mask), expected, EXACT)


def test_masks_with_travelling_prompts_are_refused() -> None:
    model = prompted(tiny_eva(), num_visual=4, visual_depth="shallow")
    with pytest.raises(ConfigError, match="travelling prompts"):
        model(images_for(model), is_causal=True)


def test_a_mask_beside_a_causal_one_is_refused() -> None:
    model = prompted(tiny_eva(), num_visual=4)
    with pytest.raises(ConfigError, match="attn_mask and is_causal=True are both given"):
        model(images_for(model), attn_mask=torch.ones(17, 17, dtype=torch.bool), is_causal=True)


@pytest.mark.parametrize("architecture", [a for a in ARCHITECTURES if "token" in a])
def test_the_last_block_is_short_where_the_class_token_is_pooled(architecture: str) -> None:
    model = prompted(tiny_eva(**ARCHITECTURES[architecture]), num_visual=4, num_kv=2)
    images, rows = images_for(model), RowCounter(model).rows
    short = model(images)
    assert rows[-1] == 1 < rows[0]
    assert_same(model, short, type(model).forward(model, images), EXACT)
    for name in ("blocks.2", "blocks.2.attn", "blocks.2.norm2", "norm"):
        rows.clear()
        hook = model.get_submodule(name).register_forward_hook(lambda *_: None)
        assert relative(model(images), short) < EXACT
        assert rows[-1] == rows[0], name
        hook.remove()


def test_a_pooling_chosen_later_is_followed() -> None:
    backbone = tiny_eva()
    model, images = prompted(backbone, num_visual=4, num_kv=2), images_for(backbone)
    for each in (backbone, model):
        torch.manual_seed(0)
        each.reset_classifier(5, global_pool="token")
        each.to(torch.float64)
    assert_same(model, model(images), eva_oracle(backbone, model, images)[1], EXACT)


@pytest.mark.parametrize("pooling", ["avg", "token"])
def test_checkpointing_changes_nothing(pooling: str) -> None:
    backbone = tiny_eva(global_pool=pooling)
    model = prompted(backbone, num_visual=4, num_kv=2, visual_depth="shallow").train()
    images = images_for(model)
    expected = model(images)
    model.set_grad_checkpointing()
    assert_same(model, model(images), expected, EXACT)
