"""Initial values: their distributions, and patch tokens of images."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from support.backbones_for_tests import (
    MODELS,
    images_for,
    named_backbone,
    prompted,
    tiny_swin,
    tiny_vit,
)
from torch import Tensor, nn

import e2vpt
from e2vpt.errors import ConfigError
from e2vpt.prompting.initial import (
    init_key_value,
    init_key_value_from_tokens,
    init_visual,
    init_visual_from_tokens,
    waits_for_images,
)
from e2vpt.prompting.prompts import BlockPrompts

pytestmark = pytest.mark.usefixtures("one_thread")


def block_prompts(**options: Any) -> BlockPrompts:
    return BlockPrompts(
        **({"num_visual": 40, "num_kv": 30, "width": 64, "num_heads": 4, "head_dim": 16} | options)
    )


@pytest.mark.parametrize("how", ["uniform", "patch"])
def test_uniform_visual_prompts_have_the_official_bound(how: Any) -> None:
    prompts = block_prompts()
    init_visual(prompts, how, 16 * 16, 64)
    bound = math.sqrt(6 / (3 * 16 * 16 + 64))
    assert 0.98 * bound < float(prompts.visual.detach().abs().max()) <= bound
    assert float(prompts.visual.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert abs(float(prompts.visual.detach().mean())) < 0.05 * bound


def test_all_stages_of_a_swin_have_the_bound_of_the_first() -> None:
    """reference.md section 2: the official code knows one width, that of the patches."""
    model = e2vpt.prompt(tiny_swin(), e2vpt.PromptConfig(num_visual=100))
    bound = math.sqrt(6 / (3 * 4 * 4 + 16))
    layers = e2vpt.prompt_layers(model)
    assert [layer.visual.shape[1] for layer in layers] == [16, 16, 32, 32]
    for layer in layers:
        assert 0.98 * bound < float(layer.visual.detach().abs().max()) <= bound


@pytest.mark.parametrize("how", ["kaiming", "patch"])
@pytest.mark.parametrize("share", [True, False])
def test_kaiming_key_value_prompts_have_fan_in_m_d(how: Any, share: bool) -> None:
    prompts = block_prompts(share_kv=share)
    init_key_value(prompts, how)
    bound = math.sqrt(6 / (30 * 16))
    for tensor in (prompts.key, prompts.value):
        assert 0.98 * bound < float(tensor.detach().abs().max()) <= bound
        assert float(tensor.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert torch.equal(prompts.key, prompts.value) is share


def test_the_papers_standard_deviation() -> None:
    """performance.md section 1: m = 5, d = 64 gives 0.079."""
    prompts = block_prompts(num_kv=5, num_heads=12, head_dim=64, width=768)
    init_key_value(prompts, "kaiming")
    assert float(prompts.key.detach().std()) == pytest.approx(0.079, abs=0.002)


def test_normal_and_zeros() -> None:
    prompts = block_prompts(share_kv=False)
    init_visual(prompts, "normal", 16, 64)
    init_key_value(prompts, "normal")
    for tensor in (prompts.visual, prompts.key, prompts.value):
        assert float(tensor.detach().std()) == pytest.approx(0.02, rel=0.06)
    init_visual(prompts, "zeros", 16, 64)
    init_key_value(prompts, "zeros")
    assert not any(bool(tensor.any()) for tensor in (prompts.visual, prompts.key, prompts.value))


def test_initialising_nothing_draws_nothing() -> None:
    prompts, state = block_prompts(num_visual=0, num_kv=0), torch.get_rng_state()
    init_visual(prompts, "uniform", 16, 64)
    init_key_value(prompts, "kaiming")
    init_visual_from_tokens(prompts, torch.zeros(0, 64))
    init_key_value_from_tokens(prompts, torch.zeros(4, 0, 16), torch.zeros(4, 0, 16))
    assert torch.equal(torch.get_rng_state(), state)


def test_rows_from_tokens_are_different_tokens() -> None:
    prompts, tokens = block_prompts(travels=True), torch.arange(50.0)[:, None].expand(50, 64)
    init_visual_from_tokens(prompts, tokens)
    first = prompts.visual[:, 0].tolist()
    assert len(set(first)) == 40 and set(first) <= set(range(50))
    with pytest.raises(ConfigError, match="at least 40 patch tokens and saw 39; give it more images"):
        init_visual_from_tokens(prompts, tokens[:39])


def test_deep_rows_from_tokens_have_one_size_which_the_norm_undoes() -> None:
    prompts, tokens = block_prompts().double(), torch.randn(40, 64, dtype=torch.float64) * 30
    tokens[0] = 0
    init_visual_from_tokens(prompts, tokens)
    sizes = prompts.visual.detach().square().mean(-1).sqrt()
    empty = sizes == 0
    assert int(empty.sum()) == 1 and torch.allclose(sizes[~empty], torch.tensor(0.2, dtype=torch.float64))
    rows, all_normed = (
        torch.nn.functional.layer_norm(t, (64,), eps=0.0) for t in (prompts.visual.detach(), tokens)
    )
    nearest = torch.cdist(rows[~empty], all_normed[1:]).min(1)
    assert float(nearest.values.max()) < 1e-6 and len(nearest.indices.unique()) == 39


def test_large_tokens_in_half_precision_keep_their_direction() -> None:
    """Squares of activations beyond 256 are infinite in fp16."""
    prompts = block_prompts().half()
    tokens = 1000 * torch.randn(40, 64, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    init_visual_from_tokens(prompts, tokens.half())
    exact = block_prompts()
    torch.manual_seed(1)
    init_visual_from_tokens(exact, tokens.half().float())
    assert torch.equal(prompts.visual, exact.visual.half())
    assert torch.allclose(exact.visual.square().mean(-1).sqrt(), torch.tensor(0.2))


@pytest.mark.parametrize("share", [True, False])
def test_key_value_from_tokens_keep_a_tokens_key_and_value_together(share: bool) -> None:
    prompts = block_prompts(share_kv=share)
    keys = torch.arange(50.0)[None, :, None].expand(4, 50, 16)
    init_key_value_from_tokens(prompts, keys, keys + 100)
    if share:
        assert prompts.key is prompts.value and bool((prompts.key >= 50).all())
    else:
        assert torch.equal(prompts.value, prompts.key + 100)
    assert len(prompts.key[0, :, 0].unique()) == 30
    assert torch.equal(prompts.key[0], prompts.key[3])


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("kind", ["vit", "vit-avg", "registers", "swin"])
def test_patch_init_draws_tokens_of_the_images(kind: str, share: bool) -> None:
    backbone = tiny_vit(reg_tokens=2) if kind == "registers" else MODELS[kind][0]()
    config = {"num_visual": 5, "num_kv": 4, "share_kv": share, "init": "patch", "kv_init": "patch"}
    model, images = prompted(backbone, **config), images_for(backbone)
    model.train()
    e2vpt.prompt_layers(model)[0].eval()
    modes = [m.training for m in model.modules()]
    e2vpt.init_from_images(model, images)
    assert [m.training for m in model.modules()] == modes
    assert all(layer.enabled for layer in e2vpt.prompt_layers(model))
    for layer, block, tokens in zip(e2vpt.prompt_layers(model), *inputs(backbone, images), strict=True):
        # Deep prompts all have one size, which the block's norm undoes.
        assert_rows_of(layer.visual, 0.2 * tokens / tokens.square().mean(-1, keepdim=True).sqrt())
        attention = block.attn
        q_k_v = attention.qkv(block.norm1(tokens)).unflatten(-1, (3, attention.num_heads, -1))
        keys, values = q_k_v[:, 1], q_k_v[:, 2]
        keys = attention.k_norm(keys) if hasattr(attention, "k_norm") else keys
        if share:
            assert_rows_of(layer.key.transpose(0, 1).flatten(1), ((keys + values) / 2).flatten(1))
        else:
            both = torch.cat([layer.key, layer.value], -1).transpose(0, 1).flatten(1)
            assert_rows_of(both, torch.cat([keys, values], -1).flatten(1))


def inputs(backbone: nn.Module, images: Tensor) -> tuple[list[nn.Module], list[Tensor]]:
    """timm's blocks and the patch tokens that enter each."""
    blocks = [m for m in backbone.modules() if hasattr(m, "attn") and hasattr(m, "norm1")]
    seen: list[Tensor] = []
    prefix = getattr(backbone, "num_prefix_tokens", 0)
    for block in blocks:
        block.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        backbone.eval().forward_features(images)
    return blocks, [x[:, prefix:].flatten(0, 1) if x.dim() == 3 else x.flatten(0, 2) for x in seen]


@torch.no_grad()
def assert_rows_of(rows: Tensor, tokens: Tensor) -> None:
    """Each row is one of the tokens, all different ones."""
    distance = torch.cdist(rows, tokens, compute_mode="donot_use_mm_for_euclid_dist")
    assert float(distance.min(1).values.max()) < 1e-12
    assert len(distance.argmin(1).unique()) == len(rows)


def test_patch_init_needs_enough_tokens_and_a_prompted_model() -> None:
    model = prompted(tiny_vit(), num_visual=40, init="patch")
    with pytest.raises(ConfigError, match="at least 40 patch tokens and saw 32"):
        e2vpt.init_from_images(model, images_for(model))
    with pytest.raises(ConfigError, match="no prompts"):
        e2vpt.init_from_images(tiny_vit(), images_for(model))
    by_chance = prompted(tiny_vit(), num_visual=3)
    with pytest.raises(ConfigError, match=r"init='uniform' and kv_init='kaiming' do not start from images"):
        e2vpt.init_from_images(by_chance, images_for(model))


def test_patch_init_is_seeded_and_leaves_other_prompts() -> None:
    model = prompted(tiny_vit(), num_visual=3, num_kv=2, init="patch", kv_init="kaiming")
    key = e2vpt.prompt_layers(model)[0].key.clone()
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        e2vpt.init_from_images(model, images_for(model))
        drawn.append(e2vpt.prompt_layers(model)[1].visual.clone())
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert torch.equal(e2vpt.prompt_layers(model)[0].key, key)


@pytest.mark.parametrize("kind", MODELS)
def test_prompts_wait_for_images_or_for_tensors(kind: str) -> None:
    make, options = MODELS[kind]
    model = e2vpt.prompt(make(), e2vpt.PromptConfig(**(options | {"init": "patch", "kv_init": "patch"})))
    assert waits_for_images(model) and waits_for_images(copy.deepcopy(model))
    by_images, loaded = copy.deepcopy(model), copy.deepcopy(model)
    e2vpt.init_from_images(by_images, images_for(model, batch=4))
    loaded.load_state_dict(by_images.state_dict())
    assert not waits_for_images(by_images) and not waits_for_images(loaded)
    without = {name: t for name, t in by_images.state_dict().items() if not name.endswith(".visual")}
    model.load_state_dict(without, strict=False)
    assert waits_for_images(model), "its visual prompts were not in the file"


@pytest.mark.parametrize(("init", "kv_init"), [("patch", "kaiming"), ("uniform", "patch")])
def test_only_prompts_that_start_from_images_wait(init: Any, kv_init: Any) -> None:
    config = {"init": init, "kv_init": kv_init}
    assert waits_for_images(e2vpt.prompt(tiny_vit(), e2vpt.PromptConfig(**config)))
    none = {"num_visual" if init == "patch" else "num_kv": 0}
    assert not waits_for_images(e2vpt.prompt(tiny_vit(), e2vpt.PromptConfig(**config, **none)))
    published = e2vpt.PromptConfig(init="uniform", kv_init="kaiming")
    assert not waits_for_images(e2vpt.prompt(tiny_vit(), published))
    assert not waits_for_images(tiny_vit())


def test_a_loaded_adapter_waits_for_nothing(tmp_path: Path) -> None:
    config = e2vpt.PromptConfig(init="patch", kv_init="patch", num_visual=2)
    model = e2vpt.prompt(named_backbone("supervised", torch.float32), config)
    e2vpt.save_adapter(model, tmp_path / "a.safetensors")
    backbone = named_backbone("supervised", torch.float32)
    loaded, _ = e2vpt.load_adapter(tmp_path / "a.safetensors", backbone)
    assert waits_for_images(model) and not waits_for_images(loaded)
