"""Weight files: every layout loads tensor for tensor, and nothing that is foreign, short or hostile does."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from support.backbones_for_tests import randomise, tiny_beit, tiny_eva, tiny_swin_v2
from support.weights_for_tests import State, decoder, headless, moco_v3, prefixed, swin, to_jax, vit, without
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from e2vpt.backbones.weight_files import read_weights
from e2vpt.backbones.weights import head_names, load_weights
from e2vpt.errors import WeightsError


def assert_loaded(model: nn.Module, expected: State, head_before: State) -> None:
    heads = head_names(model)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, (head_before if name in heads else expected)[name], rtol=0, atol=0)


def load(model: nn.Module, path: Path) -> None:
    load_weights(model, read_weights(path), path)


TORCH_LAYOUTS: dict[str, Callable[[State], Any]] = {
    "plain.bin": lambda state: state,
    "headless.pt": headless,
    "mae_pretrain_vit_base.pth": lambda state: {"model": headless(state)},
    "mae_with_decoder.pth": lambda state: {"model": {**headless(state), **decoder(state)}},
    "vit-b-300ep.pth.tar": moco_v3,
    "linear-vit-b-300ep.pth.tar": lambda state: {"epoch": 90, "state_dict": prefixed(state, "module.")},
    "compiled.pth": lambda state: {"state_dict": prefixed(state, "_orig_mod.module.")},
    "ema.PTH": lambda state: {"model": {"cls_token": torch.zeros(1)}, "model_ema": state},
    "timm_training.pth": lambda state: {
        "state_dict": state,
        "args": argparse.Namespace(lr=0.1),
        "version": 2,
    },
    "detector.pth": lambda state: {**prefixed(headless(state), "backbone."), "head.fc.weight": torch.ones(3)},
}


@pytest.mark.parametrize("filename", TORCH_LAYOUTS)
def test_torch_layouts_load_exactly(tmp_path: Path, filename: str) -> None:
    expected, model = vit(7).state_dict(), vit(3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.save(TORCH_LAYOUTS[filename](expected), tmp_path / filename)
    load(model, tmp_path / filename)
    assert_loaded(model, expected, before)


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    half = {name: value.half() for name, value in vit().state_dict().items()}
    safetensors.torch.save_file(half, tmp_path / "half.safetensors")
    model = vit()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    load(model, tmp_path / "half.safetensors")
    assert_loaded(model, {name: value.float() for name, value in half.items()}, before)


def test_jax_release_loads_as_timm_loads_it(tmp_path: Path) -> None:
    source = vit(7)
    np.savez(tmp_path / "jax.npz", **to_jax(source.state_dict(), source.blocks[0].attn.num_heads))
    by_timm, model = vit(3), vit(3)
    by_timm.load_pretrained(str(tmp_path / "jax.npz"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    load(model, tmp_path / "jax.npz")
    assert_loaded(model, by_timm.state_dict(), before)
    assert_loaded(model, source.state_dict(), before)


def test_original_swin_release_loads_exactly(tmp_path: Path) -> None:
    source, model = swin(), swin()
    state = {name.replace("head.fc.", "head."): value for name, value in source.state_dict().items()}
    for name in [name for name in state if name.startswith("layers.1.downsample.")]:
        state[name.replace("layers.1.", "layers.0.")] = state.pop(name)
    state |= {"layers.0.blocks.0.attn.relative_position_index": torch.zeros(16, 16, dtype=torch.long)}
    state |= {"layers.0.blocks.1.attn_mask": torch.zeros(4, 16, 16)}
    torch.save({"model": state}, tmp_path / "swin.pth")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    load(model, tmp_path / "swin.pth")
    assert_loaded(model, source.state_dict(), before)


@pytest.mark.parametrize(("make", "resized"), [(vit, "pos_embed"), (swin, "relative_position_bias_table")])
def test_other_image_size_resamples_positions_only(
    tmp_path: Path, make: Callable[..., nn.Module], resized: str
) -> None:
    source = make()
    torch.save(source.state_dict(), tmp_path / "w.pth")
    small = vit(img_size=64) if make is vit else swin(8)
    before = {name: value.clone() for name, value in small.state_dict().items()}
    load(small, tmp_path / "w.pth")
    expected, after = source.state_dict(), small.state_dict()
    changed = {name for name in after if after[name].shape != expected[name].shape}
    assert changed and all(name.endswith(resized) for name in changed)
    assert all(not torch.equal(after[name], before[name]) for name in changed)
    assert_loaded(small, {**expected, **{name: after[name] for name in changed}}, before)


def test_average_pooling_starts_its_norm_afresh(tmp_path: Path) -> None:
    source, model = vit(), timm.create_model("test_vit", num_classes=3, global_pool="avg")
    torch.save(source.state_dict(), tmp_path / "tokens.pth")
    load(model, tmp_path / "tokens.pth")
    assert torch.equal(model.fc_norm.weight, torch.ones(64)) and not model.fc_norm.bias.any()
    assert torch.equal(model.blocks[5].mlp.fc2.bias, source.blocks[5].mlp.fc2.bias)


def test_average_pooling_keeps_a_tuned_norm(tmp_path: Path) -> None:
    source, model = vit(global_pool="avg"), vit(global_pool="avg")
    torch.save(source.state_dict(), tmp_path / "tuned.pth")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    load(model, tmp_path / "tuned.pth")
    assert_loaded(model, source.state_dict(), before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("blocks.3.attn.qkv.bias"), "missing: blocks.3.attn.qkv.bias"),
        (lambda s: {**s, "blocks.9.norm1.bias": torch.ones(64)}, "left over: blocks.9.norm1.bias"),
        (lambda s: {**s, "fc_norm.weight": torch.ones(64)}, "left over: fc_norm.weight"),
        (
            lambda s: {**s, "norm.bias": torch.ones(1)},
            r"of another shape: norm.bias \[1\] \(expected \[64\]\)",
        ),
        (lambda s: {**s, "norm.bias": torch.ones(64).int()}, "not of float16.*: norm.bias"),
        (lambda s: {**s, "norm.bias": torch.ones(64).to(torch.float8_e4m3fn)}, "not of float16.*: norm.bias"),
        (lambda s: {**s, "norm.bias": torch.ones(64).to(torch.complex64)}, "not of float16.*: norm.bias"),
        (lambda s: {**s, "norm.bias": torch.full((64,), float("nan"))}, "not finite: norm.bias"),
        (lambda s: {**s, "pos_embed": s["pos_embed"][:, 1:]}, "timm cannot convert it"),
        (
            lambda s: {**s, "patch_embed.proj.weight": torch.ones(64, 3, 8, 8)},
            r"is \[64, 3, 8, 8\], expected",
        ),
        (
            lambda s: {"conv1.weight": torch.ones(2)},
            r"missing: blocks.* and \d+ more\n  left over: conv1.weight",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(
    tmp_path: Path, change: Callable[[State], State], message: str
) -> None:
    path = tmp_path / "w.safetensors"
    state = {name: value.contiguous().clone() for name, value in change(vit().state_dict()).items()}
    safetensors.torch.save_file(state, path)
    model = vit(3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(WeightsError, match=message) as caught:
        load(model, path)
    assert str(path) in str(caught.value) and "test_vit" in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_deeper_jax_release_is_not_cut_to_size(tmp_path: Path) -> None:
    state = vit().state_dict()
    deeper = {**state, **{n.replace(".5.", ".6."): v for n, v in state.items() if n.startswith("blocks.5.")}}
    np.savez(tmp_path / "deep.npz", **to_jax(deeper, 2))
    with pytest.raises(WeightsError, match=r"left over: blocks.6"):
        load(vit(), tmp_path / "deep.npz")


@pytest.mark.shared
@pytest.mark.parametrize("image_size", [224, 96])
def test_real_vit_tiny(shared: Path, image_size: int) -> None:
    path = shared / "data" / "weights" / "vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors"
    expected = safetensors.torch.load_file(path)
    model = VisionTransformer(img_size=image_size, embed_dim=192, num_heads=3, num_classes=5)
    load(model, path)
    kept = headless(expected) if image_size == 224 else without("pos_embed")(headless(expected))
    assert all(torch.equal(model.state_dict()[name], value) for name, value in kept.items())
    assert len(kept) >= len(model.state_dict()) - 3


def eva(image_size: int = 32, **options: Any) -> Any:
    return tiny_eva(torch.float32, img_size=image_size, num_reg_tokens=2, init_values=0.1, **options)


@pytest.mark.parametrize("image_size", [32, 48])
def test_an_eva_loads_exactly_at_any_image_size(tmp_path: Path, image_size: int) -> None:
    source, model = eva(use_abs_pos_emb=False), eva(image_size, use_abs_pos_emb=False, num_classes=3)
    randomise(model, seed=9)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    safetensors.torch.save_file(source.state_dict(), tmp_path / "eva.safetensors")
    load(model, tmp_path / "eva.safetensors")
    assert_loaded(model, source.state_dict(), before)


def test_dinov3_files_of_its_authors_load_with_their_biases(tmp_path: Path) -> None:
    """They hold one bias of queries, keys and values, of which that of keys is zero."""
    source = eva(use_abs_pos_emb=False).state_dict()
    theirs = {
        name.replace("gamma_", "ls").replace("reg_token", "storage_tokens")
        + (".gamma" if ".gamma_" in name else ""): value
        for name, value in headless(source).items()
    }
    for block in range(3):
        q, v = (theirs.pop(f"blocks.{block}.attn.{part}_bias") for part in "qv")
        theirs[f"blocks.{block}.attn.qkv.bias"] = torch.cat([q, torch.zeros_like(q), v])
    theirs |= {"mask_token": torch.ones(1, 1, 48), "rope_embed.periods": torch.ones(8)}
    torch.save(theirs, tmp_path / "dinov3.pth")
    model = randomise(eva(use_abs_pos_emb=False, num_classes=3), seed=9)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    load(model, tmp_path / "dinov3.pth")
    assert_loaded(model, source, before)


@pytest.mark.parametrize("image_size", [32, 64])
@pytest.mark.parametrize("make", [tiny_beit, tiny_swin_v2])
def test_beit_and_the_second_swin_load_at_any_image_size(tmp_path: Path, make: Any, image_size: int) -> None:
    source, model = make(torch.float32), make(torch.float32, img_size=image_size, num_classes=3)
    randomise(model, seed=9)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    safetensors.torch.save_file(source.state_dict(), tmp_path / "weights.safetensors")
    load(model, tmp_path / "weights.safetensors")
    expected = source.state_dict()
    for name in [name for name in expected if name.endswith(("pos_embed", "relative_position_bias_table"))]:
        if image_size != 32:  # resampled, as timm does
            assert not torch.equal(model.state_dict()[name], before[name])
            expected[name] = model.state_dict()[name]
    assert_loaded(model, expected, before)
