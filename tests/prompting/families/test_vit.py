"""Prompted ViTs equal the plain sequence path, whatever the architecture, pooling and training are."""

from __future__ import annotations

import copy
import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from support.backbones_for_tests import (
    PROMPTS,
    assert_same,
    gradients,
    images_for,
    prompted,
    randomise,
    relative,
    tiny_vit,
)
from support.oracles.vit import vit_oracle
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

import e2vpt
from e2vpt.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")

EXACT = 1e-12
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "plain": {},
    "qk-norm": {"qk_norm": True},
    "layer-scale": {"init_values": 0.1},
    "scale-norm": {"scale_attn_norm": True, "scale_mlp_norm": True},
    "registers": {"reg_tokens": 3},
    "no-qkv-bias": {"qkv_bias": False},
    "pre-norm": {"pre_norm": True},
    "avg": {"global_pool": "avg"},
    "avg-no-class-token": {"global_pool": "avg", "class_token": False, "reg_tokens": 2},
    "avg-with-prefix": {"global_pool": "avg", "pool_include_prefix": True},
    "max": {"global_pool": "max"},
    "map": {"global_pool": "map", "class_token": False},
    "map-registers": {"global_pool": "map", "reg_tokens": 2},
    "one-block": {"depth": 1},
}


CASES = [(a, p) for a in ARCHITECTURES for p in ("mixed", "shallow-visual")]
CASES += [(a, p) for a in ("plain", "qk-norm") for p in PROMPTS if (a, p) not in CASES]


@pytest.mark.parametrize(("architecture", "prompts"), CASES)
def test_logits_features_and_gradients_equal_the_sequence_path(architecture: str, prompts: str) -> None:
    backbone = tiny_vit(**ARCHITECTURES[architecture])
    model = prompted(backbone, **PROMPTS[prompts])
    images = images_for(model)
    features, logits = vit_oracle(backbone, model, images)
    for mode in (True, False):
        model.train(mode)
        assert_same(model, model(images), logits)
        assert relative(model.forward_features(images), features) < EXACT
    model.set_grad_checkpointing()
    assert_same(model, model(images), logits)
    with torch.no_grad():
        assert relative(model(images), logits) < EXACT
        assert relative(model(images), logits) < EXACT


def test_gated_attention_equals_the_sequence_path() -> None:
    backbone = tiny_vit(attn_layer=_gated())
    model = prompted(backbone, num_visual=4, num_kv=3)
    images = images_for(model)
    assert_same(model, model(images), vit_oracle(backbone, model, images)[1])


def _gated() -> Any:
    if "gated" not in inspect.signature(Attention).parameters:
        pytest.skip("this timm has no gated attention")

    class Make:
        """timm asks for a class; `__new__` gives the plain one, gated."""

        def __new__(cls, *args: Any, **kwargs: Any) -> nn.Module:
            return Attention(*args, **kwargs, gated=True)

    return Make


@pytest.mark.parametrize("visual", [(0, 3, 1), (2, 0, 0), (0, 0, 4)])
@pytest.mark.parametrize("kv", [(1, 0, 2), (0, 0, 0), (0, 0, 3)])
def test_counts_differ_per_block(visual: tuple[int, ...], kv: tuple[int, ...]) -> None:
    backbone = tiny_vit()
    model = prompted(backbone, num_visual=visual, num_kv=kv)
    assert tuple(layer.num_visual for layer in e2vpt.prompt_layers(model)) == visual
    assert tuple(layer.num_kv for layer in e2vpt.prompt_layers(model)) == kv
    images = images_for(model)
    assert_same(model, model(images), vit_oracle(backbone, model, images)[1])
    with torch.no_grad():
        assert relative(model(images), vit_oracle(backbone, model, images)[1]) < EXACT


@pytest.mark.parametrize("depth", ["deep", "shallow"])
@pytest.mark.parametrize("architecture", ["plain", "qk-norm", "avg"])
def test_dropout_is_drawn_for_every_image(architecture: str, depth: str, drawn: dict[int, Tensor]) -> None:
    backbone = tiny_vit(**ARCHITECTURES[architecture])
    model = prompted(backbone, num_visual=4, num_kv=2, dropout=0.4, visual_depth=depth).train()
    images = images_for(model, batch=3)
    found = model(images)
    draws = [drawn.get(id(layer)) for layer in e2vpt.prompt_layers(model)]
    assert draws[0].shape == (3, 4, 48)
    assert not torch.equal(draws[0][0], draws[0][1])
    assert_same(model, found, vit_oracle(backbone, model, images, draws)[1])
    assert relative(model.eval()(images), vit_oracle(backbone, model, images)[1]) < EXACT


def test_dropout_survives_checkpointing() -> None:
    """Recomputed blocks draw the same prompts again."""
    model = prompted(tiny_vit(), num_visual=4, num_kv=2, dropout=0.4).train()
    images, found = images_for(model), []
    for enabled in (False, True):
        model.set_grad_checkpointing(enabled)
        torch.manual_seed(7)
        found.append(gradients(model, model(images).square().sum()))
    for name, gradient in found[0].items():
        assert torch.allclose(found[1][name], gradient, rtol=1e-12, atol=0), name


def test_drop_path_and_other_dropout_draw_as_in_timm() -> None:
    """Same seed, same draws: prompts that are there but switched off leave the random stream alone."""
    backbone = tiny_vit(
        drop_path_rate=0.5, proj_drop_rate=0.2, attn_drop_rate=0.2, pos_drop_rate=0.1, drop_rate=0.1
    ).train()
    model = prompted(backbone, num_visual=3, num_kv=2).train()
    images = images_for(model, batch=4)
    outputs = []
    for run in (backbone.forward_features, model.forward_features):
        torch.manual_seed(3)
        with e2vpt.disabled(model):
            outputs.append(run(images))
    # SDPA's own dropout draws over the same number of keys only without prompts.
    assert torch.equal(*outputs)


@pytest.mark.parametrize("prompts", ["mixed", "shallow"])
def test_class_token_only_equals_timms_full_path(prompts: str) -> None:
    model = prompted(tiny_vit(reg_tokens=2), **PROMPTS[prompts])
    images = images_for(model)
    assert_same(model, model(images), type(model).forward(model, images))


@pytest.mark.parametrize("kind", ["bool", "float", "per-image", "causal"])
@pytest.mark.parametrize("architecture", ["plain", "avg", "qk-norm"])
def test_masks_of_the_caller_cover_the_image_tokens_only(architecture: str, kind: str) -> None:
    backbone = tiny_vit(**ARCHITECTURES[architecture])
    model = prompted(backbone, num_visual=4, num_kv=3)
    images, tokens = images_for(model), 17
    allowed = (torch.rand(tokens, tokens) > 0.5) | torch.eye(tokens, dtype=torch.bool)
    mask: dict[str, Any] = {
        "bool": {"attn_mask": allowed},
        "float": {"attn_mask": torch.randn(tokens, tokens, dtype=torch.float64)},
        "per-image": {"attn_mask": torch.randn(2, 1, tokens, tokens, dtype=torch.float64)},
        "causal": {"is_causal": True},
    }[kind]
    features, logits = vit_oracle(backbone, model, images, **mask)
    assert_same(model, model(images, **mask), logits)
    assert relative(model.forward_features(images, **mask), features) < EXACT
    with torch.no_grad():
        assert relative(model(images, **mask), logits) < EXACT


def test_a_mask_beside_a_causal_one_is_refused() -> None:
    model = prompted(tiny_vit(), num_visual=4)
    images, mask = images_for(model), torch.ones(17, 17, dtype=torch.bool)
    for run in (model, model.forward_features):
        with pytest.raises(ConfigError, match="attn_mask and is_causal=True are both given"):
            run(images, attn_mask=mask, is_causal=True)


@pytest.mark.parametrize("mask", [{"attn_mask": torch.ones(17, 17, dtype=torch.bool)}, {"is_causal": True}])
def test_masks_with_travelling_prompts_are_refused(mask: dict[str, Any]) -> None:
    model = prompted(tiny_vit(), num_visual=2, visual_depth="shallow")
    with pytest.raises(ConfigError, match=r"mask does not say how travelling prompts may look.*'deep'"):
        model(images_for(model), **mask)
    with e2vpt.disabled(model):
        model(images_for(model), **mask)


def test_intermediate_features_equal_the_full_path() -> None:
    model = prompted(tiny_vit(reg_tokens=1), num_visual=3, num_kv=2)
    images = images_for(model)
    final, grids = model.forward_intermediates(images)
    assert [tuple(grid.shape) for grid in grids] == [(2, 48, 4, 4)] * 3
    assert relative(final, model.forward_features(images)) < EXACT


def test_intermediate_features_of_travelling_prompts_are_refused() -> None:
    """timm would reshape the prompt rows into the grid."""
    model = copy.deepcopy(prompted(tiny_vit(), num_visual=3, visual_depth="shallow"))
    images = images_for(model)
    for read in (model.forward_intermediates, model.get_intermediate_layers):
        with pytest.raises(ConfigError, match=r"forward_intermediates.*visual_depth='deep'"):
            read(images)
    with e2vpt.disabled(model):
        final, _ = model.forward_intermediates(images)
        assert relative(final, model.forward_features(images)) < EXACT


def test_threads_share_a_model() -> None:
    model = prompted(tiny_vit(), num_visual=4, num_kv=2)
    batches = [images_for(model, seed=seed) for seed in range(8)]
    with torch.no_grad():
        expected = [(model(x), model.forward_features(x)) for x in batches]

    @torch.no_grad()
    def both(index: int) -> bool:
        x = batches[index % 8]
        found = model(x) if index % 2 else model.forward_features(x)
        return torch.equal(found, expected[index % 8][0 if index % 2 else 1])

    # A fresh copy: the threads meet an empty table store.
    model = copy.deepcopy(model)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(both, range(64)))


def test_a_norm_or_projection_replaced_later_is_used() -> None:
    backbone = tiny_vit()
    model = prompted(backbone, num_visual=4, num_kv=2)
    images = images_for(model)
    model(images)
    for index in range(3):
        norm = randomise(nn.LayerNorm(48), seed=index).double()
        qkv = randomise(nn.Linear(48, 144), seed=index).double()
        for each in (backbone, model):
            each.blocks[index].norm1, each.blocks[index].attn.qkv = norm, qkv
    with torch.no_grad():
        assert relative(model(images), vit_oracle(backbone, model, images)[1]) < EXACT


def test_a_single_image_is_not_taken_for_tokens() -> None:
    """Its side may be the width of the model; timm refuses it, and so does a prompted model."""
    for first_block in (0, 1):
        backbone = tiny_vit(torch.float32, img_size=48, patch_size=16, embed_dim=48)
        with pytest.raises(ValueError, match="unpack"):
            backbone(torch.zeros(3, 48, 48))
        config = e2vpt.PromptConfig(num_visual=2, num_kv=1, first_block=first_block)
        model = e2vpt.prompt(backbone, config).eval()
        with pytest.raises(ValueError, match="unpack"):
            model(torch.zeros(3, 48, 48))
    tokens = model.first_tokens(torch.zeros(3, 3, 48, 48))  # type: ignore[operator]
    assert torch.equal(model(tokens), model(torch.zeros(3, 3, 48, 48)))
