"""Presets know their preprocessing, and timm knows them."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from timm.models import get_pretrained_cfg

from e2vpt import DataConfig, preprocessing_for
from e2vpt.backbones import load as backbones
from e2vpt.backbones.presets import PRESETS


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty hub cache and no requests."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


HALF, IMAGENET = (0.5,) * 3, (timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD)
# What each checkpoint was trained with: mean and standard deviation, crop, interpolation.
PREPROCESSING = {
    "vit-b16-sup21k": ((HALF, HALF), 0.9, "bicubic"),
    "vit-b16-augreg21k": ((HALF, HALF), 0.9, "bicubic"),
    "vit-b16-mae": (IMAGENET, 0.9, "bicubic"),
    "vit-b16-mocov3": (IMAGENET, 0.875, "bilinear"),
    "swin-b-sup22k": (IMAGENET, 0.9, "bicubic"),
}
OF_TODAY = {
    **dict.fromkeys(
        ("dinov3-s", "dinov3-b", "dinov3-s-cls", "dinov3-b-cls"), (IMAGENET, 1.0, "bicubic", 256)
    ),
    "pe-core-b": ((HALF, HALF), 1.0, "bicubic", 224),
    "siglip2-b": ((HALF, HALF), 0.9, "bicubic", 224),
}


@pytest.mark.parametrize("name", PREPROCESSING)
def test_presets_know_their_preprocessing_and_the_paper_s(name: str) -> None:
    with torch.device("meta"):
        model = backbones.build_backbone(name, num_classes=0)
    own, official = (
        preprocessing_for(model, DataConfig(preprocess=kind)) for kind in ("backbone", "imagenet")
    )
    assert ((own.mean, own.std), own.crop_pct, own.interpolation) == PREPROCESSING[name]
    assert ((official.mean, official.std), official.crop_pct) == (IMAGENET, 1.0)
    assert own.image_size == official.image_size == (224, 224)


@pytest.mark.parametrize("name", OF_TODAY)
def test_presets_of_today_know_their_preprocessing_and_read_out(name: str) -> None:
    model = backbones.planned_backbone(name, num_classes=0)
    own = preprocessing_for(model, DataConfig())
    assert ((own.mean, own.std), own.crop_pct, own.interpolation, own.image_size[0]) == OF_TODAY[name]
    pooling = "token" if name.endswith("-cls") else "avg" if name.startswith("dinov3") else "map"
    assert model.global_pool == pooling
    if name.startswith("dinov3"):
        assert model.blocks[0].attn.q_bias is not None and model.num_prefix_tokens == 5
    assert backbones.backbone_name(model) == name


def test_presets_are_known_to_timm() -> None:
    assert set(PRESETS) == {*PREPROCESSING, *OF_TODAY, "demo"}
    for name, preset in PRESETS.items():
        if name != "demo":
            assert get_pretrained_cfg(preset.timm_name, allow_unregistered=False) is not None
