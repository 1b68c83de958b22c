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


def test_presets_are_known_to_timm() -> None:
    assert set(PRESETS) == {*PREPROCESSING, "demo"}
    for name, preset in PRESETS.items():
        if name != "demo":
            assert get_pretrained_cfg(preset.timm_name, allow_unregistered=False) is not None
