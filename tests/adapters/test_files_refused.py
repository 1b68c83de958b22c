"""Adapter files that do not fit the backbone, or the arguments beside it, are refused and change nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.adapter_files import edited
from support.adapters_for_tests import fresh, model_of, save, tuned_model
from support.backbones_for_tests import tiny_vit
from torch import nn

import e2vpt
from e2vpt.backbones.fingerprint import fingerprint
from e2vpt.errors import BackboneMismatch, ConfigError, UnsupportedBackbone

pytestmark = pytest.mark.usefixtures("one_thread")


def refused(path: Path, backbone: nn.Module, message: str) -> None:
    """Refused with this message, and the backbone is as it was."""
    before, structure = {name: t.clone() for name, t in backbone.state_dict().items()}, str(backbone)
    with pytest.raises(BackboneMismatch, match=message):
        e2vpt.load_adapter(path, backbone)
    assert str(backbone) == structure and all(p.requires_grad for p in backbone.parameters())
    assert not hasattr(backbone, "adapted") and not hasattr(backbone, "prompt_config")
    assert all(torch.equal(t, before[name]) for name, t in backbone.state_dict().items())


def test_other_weights(saved: Path) -> None:
    other = fresh("vit")
    with torch.no_grad():
        other.blocks[1].mlp.fc1.bias[5] += 1e-6
    refused(
        saved,
        other,
        r"has other weights \(fingerprint [0-9a-f]{12}, expected [0-9a-f]{12}\). Load the weights",
    )


def test_other_shapes(saved: Path) -> None:
    refused(saved, tiny_vit(torch.float32, depth=2), "with 3 blocks; VisionTransformer has 2")
    narrow = tiny_vit(torch.float32, embed_dim=24)
    refused(saved, narrow, r"its blocks.0.key has shape \(3, 2, 16\), VisionTransformer needs \(3, 2, 8\)")
    refused(saved, tiny_vit(torch.float32, num_heads=4), r"needs \(4, 2, 12\)")
    save(model_of("vit", "visual-only"), saved)
    refused(saved, narrow, r"its blocks.0.visual has shape \(64,\), VisionTransformer needs \(32,\)")
    odd = tiny_vit(torch.float32, embed_dim=50, num_heads=2)
    refused(saved, odd, "its masks have 3 segments, which do not divide the 50 channels of VisionTransformer")
    refused(saved, fresh("swin"), "with 3 blocks; SwinTransformer has 4")


def test_other_pooling(saved: Path) -> None:
    refused(saved, fresh("vit-avg"), "with 'token' pooling; VisionTransformer pools by 'avg'")


def test_other_image_size(saved: Path, tmp_path: Path) -> None:
    large = tiny_vit(torch.float32, img_size=64)
    refused(saved, large, r"images of \(32, 32\) pixels; VisionTransformer is built for \(64, 64\). Load the")
    wide = edited(saved, tmp_path / "wide", {"preprocessing.image_size": [32, 64]})
    refused(wide, fresh("vit"), r"images of \(32, 64\) pixels")
    flexible = tiny_vit(torch.float32, img_size=64, dynamic_img_size=True)
    at_32 = edited(saved, tmp_path / "at32", {"fingerprint": fingerprint(flexible)})
    loaded, _ = e2vpt.load_adapter(at_32, flexible)
    with torch.no_grad():
        assert loaded(torch.zeros(1, 3, 32, 32)).shape == (1, 7)
    flexible = tiny_vit(torch.float32, img_size=64, dynamic_img_size=True)
    huge = edited(at_32, tmp_path / "huge", {"preprocessing.image_size": [32, 4096]})
    refused(huge, flexible, r"images of \(32, 4096\) pixels; VisionTransformer takes at most 720 a side")


def test_settings_of_another_kind_of_backbone(saved: Path, tmp_path: Path) -> None:
    pooled = edited(saved, tmp_path / "pooled", {"prompts.pool_prompts": True})
    refused(pooled, fresh("vit"), "has settings that do not fit this backbone: pool_prompts is for Swin")


def test_a_model_without_room(saved: Path) -> None:
    with pytest.raises(UnsupportedBackbone, match="found Linear"):
        e2vpt.load_adapter(saved, nn.Linear(2, 2))


@pytest.mark.parametrize(("method", "other"), [("bias", "linear"), ("bias", "layernorm"), ("lora", "dora")])
def test_what_another_method_tunes_changes_nothing(method: str, other: str, saved: Path) -> None:
    save(tuned_model(method), saved)
    named = edited(saved, saved.with_name("other"), {"method": other})
    refused(named, fresh("vit"), f"was made by method {other}: its .* has shape")


def test_what_would_be_ignored_or_cannot_be_is_refused(saved: Path, tmp_path: Path) -> None:
    model, _ = e2vpt.load_adapter(saved, tiny_vit(torch.float32))
    with pytest.raises(ConfigError, match="weights have no effect beside a backbone that is a model"):
        e2vpt.load_adapter(saved, tiny_vit(torch.float32), weights="nowhere.pth")
    with pytest.raises(ConfigError, match="precision is 'bf16'; expected one of"):
        e2vpt.save_adapter(model, tmp_path / "x.safetensors", precision="bf16")  # type: ignore[arg-type]
