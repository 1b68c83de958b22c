"""Adapter files whose backbone is found by its name, and what a file may not choose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
from support.adapter_files import edited
from support.adapters_for_tests import fresh, save
from support.backbones_for_tests import images_for, prompted, randomise
from torch import nn

import e2vpt
from e2vpt.backbones.load import without_memory
from e2vpt.errors import BackboneError, BackboneMismatch, UnsupportedBackbone, WeightsError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty hub cache and no requests."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def weights(tmp_path: Path, offline: None) -> Path:
    model = randomise(timm.create_model("test_vit", num_classes=0))
    safetensors.torch.save_file(model.state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


@pytest.mark.parametrize("image_size", [None, 64])
def test_by_the_name_in_the_file(weights: Path, path: Path, image_size: int | None) -> None:
    backbone = e2vpt.load_backbone("test_vit", num_classes=4, weights=weights, image_size=image_size)
    model = prompted(backbone, num_visual=2, num_kv=1)
    e2vpt.save_adapter(model, path)
    side = image_size or 160
    for name in (None, "test_vit"):
        loaded, info = e2vpt.load_adapter(path, name, weights=weights)
        # test_vit has a tag by default
        assert info.backbone == "test_vit.r160_in1k" and info.preprocessing.image_size == (side, side)
        with torch.no_grad():
            assert torch.equal(loaded(images_for(model)), model(images_for(model)))


def test_the_shipped_backbone_by_name(offline: None, path: Path) -> None:
    model = prompted(e2vpt.load_backbone("demo", num_classes=3), num_visual=2)
    e2vpt.save_adapter(model, path, classes=["a", "b", "c"])
    loaded, info = e2vpt.load_adapter(path)
    assert info.backbone == "demo"
    with torch.no_grad():
        assert torch.equal(loaded(images_for(model)), model(images_for(model)))


def test_names_that_lead_nowhere(offline: None, saved: Path, tmp_path: Path) -> None:
    with pytest.raises(BackboneMismatch, match=r"was made on a backbone without a timm name; pass that"):
        e2vpt.load_adapter(saved)
    named = edited(saved, tmp_path / "named", {"backbone": "vit_base_patch17"})
    with pytest.raises(BackboneError, match="There is no backbone 'vit_base_patch17'"):
        e2vpt.load_adapter(named)
    named = edited(saved, tmp_path / "named", {"backbone": "test_vit"})
    with pytest.raises(BackboneMismatch, match=r"with 3 blocks; test_vit\.r160_in1k has 6"):
        e2vpt.load_adapter(named)
    save(prompted(timm.create_model("test_vit", num_classes=7)), named, preprocessing=None)
    with pytest.raises(WeightsError, match="could not be downloaded"):
        e2vpt.load_adapter(named)
    other = edited(saved, tmp_path / "named", {"backbone": "test_vit", "preprocessing.image_size": [33, 33]})
    with pytest.raises(BackboneError, match=r"named was made for test_vit: image_size=33"):
        e2vpt.load_adapter(other)


def test_a_file_does_not_choose_how_much_memory_its_backbone_takes(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(prompted(e2vpt.load_backbone("demo", num_classes=3), num_visual=2), path, preprocessing=None)

    def build(*_: Any, **__: Any) -> None:
        raise AssertionError("a backbone was built")

    monkeypatch.setattr("e2vpt.backbones.load.read_weights", build)
    monkeypatch.setattr("e2vpt.adapters.choosing.load_backbone", build)
    cases = [
        (
            {"backbone": "vit_large_patch16_224"},
            BackboneMismatch,
            "with 6 blocks; vit_large_patch16_224.* has 24",
        ),
        ({"backbone": "vit_7b_patch16_dinov3"}, BackboneMismatch, "dinov3.* has 40"),
        ({"backbone": "convnext_xxlarge"}, UnsupportedBackbone, "found ConvNeXt"),
        (
            {"preprocessing.image_size": [4096, 4096]},
            BackboneError,
            "image_size=4096 is too large .*most is 720",
        ),
    ]
    for changes, error, message in cases:
        with pytest.raises(error, match=message):
            e2vpt.load_adapter(edited(path, tmp_path / "named", changes))


def test_a_file_does_not_choose_a_hub_repository(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def record(name: str, **_: Any) -> nn.Module:
        asked.append(name)
        return fresh("vit")

    monkeypatch.setattr("e2vpt.adapters.choosing.load_backbone", record)
    monkeypatch.setattr(
        "e2vpt.adapters.choosing.planned_backbone", lambda *_, **__: without_memory(fresh("vit"))
    )
    named = edited(saved, tmp_path / "named", {"backbone": "hf-hub:evil/x"})
    assert e2vpt.read_adapter(named).backbone == "hf-hub:evil/x"
    with pytest.raises(
        BackboneMismatch, match=r"hf-hub:evil/x; a file does not choose .*backbone='hf-hub:evil/x'"
    ):
        e2vpt.load_adapter(named)
    assert asked == []
    e2vpt.load_adapter(named, "hf-hub:evil/x")
    e2vpt.load_adapter(edited(saved, tmp_path / "timms", {"backbone": "hf-hub:timm/vit_tiny"}))
    assert asked == ["hf-hub:evil/x", "hf-hub:timm/vit_tiny"]
