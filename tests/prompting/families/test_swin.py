"""Prompted Swins equal a plain path that computes one image and one window at a time."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from support.backbones_for_tests import assert_same, images_for, prompted, relative, tiny_swin, tiny_swin_v2
from support.oracles.swin import swin_oracle
from torch import Tensor, nn

import e2vpt
from e2vpt.errors import ConfigError, UnsupportedBackbone

pytestmark = pytest.mark.usefixtures("one_thread")

EXACT = 1e-12
BACKBONES: dict[str, dict[str, Any]] = {
    "several-last-windows": {},
    "one-last-window": {"window_size": 4},
    "padded-windows": {"window_size": 3},
    "no-qkv-bias": {"qkv_bias": False},
    "dynamic-masks": {"dynamic_img_size": True},
    "224px-several-last-windows": {"img_size": 224, "window_size": 7, "depths": (1, 2)},
    "v2": {"version": 2},
    "v2-padded-windows": {"version": 2, "window_size": 3},
    "v2-no-qkv-bias": {"version": 2, "qkv_bias": False},
    "v2-pretrained-windows": {"version": 2, "window_size": 4, "pretrained_window_sizes": (2, 2)},
}
PROMPTS: dict[str, dict[str, Any]] = {
    "deep": {},
    "pooled": {"pool_prompts": True},
    "shallow": {"visual_depth": "shallow"},
    "shallow-pooled": {"visual_depth": "shallow", "pool_prompts": True, "kv_depth": "shallow"},
    "separate-kv": {"share_kv": False},
    "visual-only": {"num_kv": 0},
    "shallow-visual-only": {"num_kv": 0, "visual_depth": "shallow", "pool_prompts": True},
    "kv-only": {"num_visual": 0, "pool_prompts": True},
}
CASES = [(b, p) for b in BACKBONES for p in ("deep", "shallow-pooled")]
CASES += [("several-last-windows", p) for p in PROMPTS if p not in ("deep", "shallow-pooled")]
CASES += [("224px-several-last-windows", "pooled"), ("padded-windows", "shallow")]
CASES += [("v2", p) for p in PROMPTS if p not in ("deep", "shallow-pooled")]


def made(architecture: str, **overrides: Any) -> nn.Module:
    options = BACKBONES[architecture] | overrides
    version = options.pop("version", 1)
    return (tiny_swin if version == 1 else tiny_swin_v2)(**options)


def oracle(backbone: nn.Module, model: nn.Module, images: Tensor, drawn: Any = None) -> Tensor:
    if backbone.dynamic_img_size:  # the oracle reads timm's stored masks
        for stage in backbone.layers:
            for block in stage.blocks:
                block.attn_mask = block.get_attn_mask(torch.empty(1, *block.input_resolution, 1).double())
    return swin_oracle(backbone, model, images, drawn, pool_prompts=model.prompt_config.pool_prompts)


@pytest.mark.parametrize(("architecture", "prompts"), CASES)
def test_logits_and_gradients_equal_the_plain_path(architecture: str, prompts: str) -> None:
    backbone = made(architecture)
    model = prompted(backbone, **({"num_visual": 3, "num_kv": 2} | PROMPTS[prompts]))
    images = images_for(model)
    expected = oracle(backbone, model, images)
    for mode in (True, False):
        assert_same(model, model.train(mode)(images), expected)
    model.set_grad_checkpointing()
    assert_same(model, model(images), expected)
    with torch.no_grad():
        for _ in range(2):
            assert relative(model(images), expected) < EXACT


@pytest.mark.parametrize("counts", [(0, 2, 0, 3), (3, 0, 1, 0)])
@pytest.mark.parametrize("pooled", [False, True])
def test_counts_differ_per_block(counts: tuple[int, ...], pooled: bool) -> None:
    backbone = tiny_swin()
    model = prompted(backbone, num_visual=counts, num_kv=counts[::-1], pool_prompts=pooled)
    images = images_for(model)
    assert_same(model, model(images), oracle(backbone, model, images))


@pytest.mark.parametrize("prompts", ["deep", "pooled", "shallow", "shallow-pooled"])
@pytest.mark.parametrize("architecture", ["several-last-windows", "224px-several-last-windows", "v2"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_one_image_never_moves_another(architecture: str, prompts: str, checkpointing: bool) -> None:
    model = prompted(made(architecture), num_visual=3, num_kv=2, **PROMPTS[prompts])
    model.set_grad_checkpointing(checkpointing)
    images = images_for(model)
    other = torch.stack([images[0], torch.randn_like(images[1])])
    assert relative(model.train()(other)[0], model(images)[0]) < EXACT
    assert relative(model(images[:1])[0], model(images)[0]) < EXACT
    assert relative(model.forward_features(other)[0], model.forward_features(images)[0]) < EXACT


@pytest.mark.parametrize("prompts", ["deep", "pooled", "shallow"])
@pytest.mark.parametrize("architecture", ["several-last-windows", "padded-windows", "one-last-window", "v2"])
def test_dropout_is_drawn_for_every_image(architecture: str, prompts: str, drawn: dict[int, Tensor]) -> None:
    backbone = made(architecture)
    model = prompted(backbone, num_visual=4, num_kv=2, dropout=0.4, **PROMPTS[prompts]).train()
    images = images_for(model, batch=3)
    found = model(images)
    draws = [drawn.get(id(layer)) for layer in e2vpt.prompt_layers(model)]
    assert draws[0].shape[0] == 3
    assert_same(model, found, oracle(backbone, model, images, draws))


@pytest.mark.parametrize("prompts", ["deep", "shallow"])
def test_dropout_survives_checkpointing(prompts: str) -> None:
    model = prompted(tiny_swin(), num_visual=4, dropout=0.4, **PROMPTS[prompts]).train()
    images, found = images_for(model), []
    for enabled in (False, True):
        model.set_grad_checkpointing(enabled)
        torch.manual_seed(7)
        found.append(model(images))
    assert_same(model, found[1], found[0])


def test_dropout_of_other_sizes_is_refused_not_misread() -> None:
    """Windows arrive without their image: 4 times as many could be 4 times the images."""
    model = prompted(tiny_swin(dynamic_img_size=True), num_visual=4, dropout=0.4).train()
    big = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with pytest.raises(UnsupportedBackbone, match=r"Prompt dropout needs .*dropout=0"):
        model(big)
    assert model.eval()(big).shape == (1, 5)


@pytest.mark.parametrize("prompts", ["pooled", "shallow"])
def test_drop_path_drops_an_images_grid_and_its_prompt_rows_together(prompts: str) -> None:
    """Stochastic depth skips a block for an image, as in a sequence that holds both."""
    model = prompted(tiny_swin(drop_path_rate=0.0), num_visual=3, num_kv=2, **PROMPTS[prompts]).train()
    seen: list[tuple[int, ...]] = []

    class Recorder(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(tuple(x.shape))
            return x * torch.tensor([0.0, 2.0]).to(x).view(-1, *[1] * (x.dim() - 1))

    last = model.layers[-1].blocks[-1]
    last.drop_path1, last.drop_path2 = Recorder(), Recorder()
    model(images_for(model))
    assert len(seen) == 2, f"drop path was drawn {len(seen)} times: {seen}"


@pytest.mark.parametrize("prompts", ["deep", "shallow", "pooled"])
def test_a_block_switched_off_alone(prompts: str) -> None:
    """`enabled` of one block is about that block, in every path."""
    backbone = tiny_swin()
    counts = {"num_visual": 3, "num_kv": 2} | PROMPTS[prompts]
    model, fewer = prompted(backbone, **counts), prompted(backbone, **counts)
    e2vpt.prompt_layers(model)[1].enabled = False
    off = e2vpt.prompt_layers(fewer)[1]
    off.visual = off.key = off.value = off.keep = None
    images = images_for(model)
    assert relative(model(images), fewer(images)) < EXACT


def test_a_resized_swin_keeps_its_prompts() -> None:
    """timm's set_input_size after prompt() changes windows and bias tables under the same names."""
    backbone = tiny_swin()
    model = prompted(backbone, num_visual=3, num_kv=2, visual_depth="shallow")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm's and scipy's own, resizing bias tables
        for each in (backbone, model):
            each.set_input_size(img_size=64, window_size=4)
    images = images_for(model)
    assert images.shape[-1] == 64
    assert_same(model, model(images), oracle(backbone, model, images))


def test_intermediate_features_of_travelling_prompts_are_refused() -> None:
    model = prompted(tiny_swin(), num_visual=3, visual_depth="shallow")
    with pytest.raises(ConfigError, match=r"forward_intermediates.*visual_depth='deep'"):
        model.forward_intermediates(images_for(model), output_fmt="NCHW")
    deep = prompted(tiny_swin(), num_visual=3)
    final, _ = deep.forward_intermediates(images_for(deep), norm=True)
    assert relative(final, deep.forward_features(images_for(deep))) < EXACT
