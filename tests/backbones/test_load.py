"""Backbones by name: what comes out, what is refused, and what moves a fingerprint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
from support.backbones_for_tests import randomise, tiny_vit
from timm.data import resolve_model_data_config
from timm.layers import DropPath
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from e2vpt.backbones import load as backbones
from e2vpt.backbones.demo import DEMO_ARCHITECTURE
from e2vpt.backbones.fingerprint import fingerprint
from e2vpt.backbones.load import backbone_name, load_backbone, planned_backbone
from e2vpt.backbones.presets import Preset
from e2vpt.errors import BackboneError, UnsupportedBackbone, WeightsError


def save(model: nn.Module, path: Path) -> Path:
    safetensors.torch.save_file({name: value.half() for name, value in model.state_dict().items()}, path)
    return path


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty hub cache and no requests."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def vit_file(tmp_path: Path) -> Path:
    return save(randomise(timm.create_model("test_vit")), tmp_path / "vit.safetensors")


def test_vit_from_a_file(vit_file: Path) -> None:
    model = load_backbone("test_vit.r160_in1k", num_classes=5, weights=str(vit_file))
    expected = safetensors.torch.load_file(vit_file)
    loaded = {name: value for name, value in model.state_dict().items() if not name.startswith("head.")}
    assert all(torch.equal(value, expected[name].float()) for name, value in loaded.items())
    assert len(loaded) == len(expected) - 2
    assert model.head.out_features == 5 and not model.training
    assert backbone_name(model) == "test_vit.r160_in1k"
    with torch.no_grad():
        assert model(torch.randn(2, 3, 160, 160)).shape == (2, 5)


def test_the_head_is_fresh_where_the_file_has_as_many_classes(vit_file: Path) -> None:
    model = load_backbone("test_vit", num_classes=1000, weights=vit_file)
    assert not torch.equal(model.head.weight, safetensors.torch.load_file(vit_file)["head.weight"].float())


def test_another_image_size_is_what_the_data_is_made_for(vit_file: Path) -> None:
    large = load_backbone("test_vit", num_classes=3, weights=vit_file)
    small = load_backbone("test_vit", num_classes=3, weights=vit_file, image_size=64)
    assert resolve_model_data_config(large)["input_size"] == (3, 160, 160)
    assert resolve_model_data_config(small)["input_size"] == (3, 64, 64)
    assert small.pos_embed.shape == (1, 17, 64)
    assert fingerprint(small) == fingerprint(large)


def test_swin_has_no_drop_path_and_takes_another_image_size(tmp_path: Path) -> None:
    name = "swin_tiny_patch4_window7_224"
    source = randomise(timm.create_model(name))
    path = save(source, tmp_path / "swin.safetensors")
    model = load_backbone(name, num_classes=3, weights=path, image_size=96)
    assert any(isinstance(module, DropPath) for module in source.modules())
    assert not any(isinstance(module, DropPath) for module in model.modules())
    assert all(module.p == 0 for module in model.modules() if isinstance(module, nn.Dropout))
    assert fingerprint(model) == fingerprint(source.half())
    with torch.no_grad():
        assert model(torch.randn(1, 3, 96, 96)).shape == (1, 3)


def test_mae_preset_reads_out_its_patches(tmp_path: Path) -> None:
    source = timm.create_model("vit_base_patch16_224", num_classes=0).half()
    nn.init.normal_(source.norm.bias)
    nn.init.normal_(source.blocks[11].mlp.fc2.bias)
    torch.save({"model": source.state_dict()}, tmp_path / "mae_pretrain_vit_base.pth")
    model = load_backbone("vit-b16-mae", num_classes=3, weights=tmp_path / "mae_pretrain_vit_base.pth")
    assert backbone_name(model) == "vit-b16-mae" and model.global_pool == "avg"
    assert torch.equal(model.blocks[11].mlp.fc2.bias, source.blocks[11].mlp.fc2.bias.float())
    assert torch.equal(model.fc_norm.weight, torch.ones(768)) and not model.fc_norm.bias.any()
    assert resolve_model_data_config(model)["mean"] == timm.data.IMAGENET_DEFAULT_MEAN


def test_mocov3_preset_says_where_its_file_is() -> None:
    with pytest.raises(
        WeightsError, match=r"Download https://dl\.fba.*/linear-vit-b-300ep\.pth\.tar and give"
    ):
        load_backbone("vit-b16-mocov3", num_classes=3)


def demo_file(path: Path) -> Path:
    return save(randomise(VisionTransformer(**DEMO_ARCHITECTURE, num_classes=0)), path)


@pytest.mark.parametrize("image_size", [None, 64])
def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image_size: int | None) -> None:
    monkeypatch.setattr(backbones, "DEMO_WEIGHTS", demo_file(tmp_path / "shipped.safetensors"))
    model = load_backbone("demo", num_classes=10, image_size=image_size)
    other = load_backbone("demo", num_classes=10, weights=backbones.DEMO_WEIGHTS)
    data, side = resolve_model_data_config(model), image_size or 32
    assert data["input_size"] == (3, side, side)
    assert (data["mean"], data["std"], data["crop_pct"]) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 1.0)
    assert backbone_name(model) == "demo" and not model.training
    assert fingerprint(model) == fingerprint(other)
    with torch.no_grad():
        assert model(torch.randn(2, 3, side, side)).shape == (2, 10)


def test_demo_weights_override_the_shipped_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "DEMO_WEIGHTS", tmp_path / "absent.safetensors")
    load_backbone("demo", num_classes=2, weights=demo_file(tmp_path / "mine.safetensors"))
    with pytest.raises(WeightsError, match=r"This installation lacks .*absent\.safetensors\. Reinstall"):
        load_backbone("demo", num_classes=2)


def put_on_hub(path: Path, repository: str, config: dict[str, Any], weights: Path) -> None:
    folder = path / f"models--{repository.replace('/', '--')}"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc" / "config.json").write_text(json.dumps(config))
    (folder / "snapshots" / "abc" / "model.safetensors").write_bytes(weights.read_bytes())


def test_hub_models_come_from_the_cache(tmp_path: Path, vit_file: Path) -> None:
    cfg = {"mean": [0.1, 0.2, 0.3], "input_size": [3, 160, 160], "fixed_input_size": True, "tag": "mine"}
    config = {"architecture": "test_vit", "pretrained_cfg": cfg, "model_args": {"proj_drop_rate": 0.5}}
    put_on_hub(tmp_path / "hub", "me/mine", config, vit_file)
    model = load_backbone("hf-hub:me/mine", num_classes=3)
    assert backbone_name(model) == "hf-hub:me/mine"
    assert tuple(resolve_model_data_config(model)["mean"]) == (0.1, 0.2, 0.3)
    assert all(module.p == 0 for module in model.modules() if isinstance(module, nn.Dropout))
    assert fingerprint(model) == fingerprint(load_backbone("test_vit", num_classes=9, weights=vit_file))


@pytest.mark.parametrize("name", ["checkpoint_path", "pretrained", "pretrained_cfg_overlay", "cache_dir"])
def test_a_hub_file_chooses_a_model_and_nothing_else(
    tmp_path: Path, vit_file: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    config = {"architecture": "test_vit", "pretrained_cfg": {}, "model_args": {name: "/etc/hostname"}}
    put_on_hub(tmp_path / "hub", "me/bad", config, vit_file)
    monkeypatch.setattr("e2vpt.backbones.load.timm.create_model", lambda *_, **__: pytest.fail("made"))
    with pytest.raises(BackboneError, match=f"config.json sets {name}, which a file must not choose"):
        load_backbone("hf-hub:me/bad", num_classes=3)


def test_hub_repository_that_is_no_timm_model(tmp_path: Path, vit_file: Path) -> None:
    put_on_hub(tmp_path / "hub", "me/bert", {"model_type": "bert"}, vit_file)
    with pytest.raises(BackboneError, match="hf-hub:me/bert is not a timm model: its config"):
        load_backbone("hf-hub:me/bert", num_classes=3)


def test_cached_timm_weights_need_no_connection(tmp_path: Path, vit_file: Path) -> None:
    put_on_hub(tmp_path / "hub", "timm/test_vit.r160_in1k", {}, vit_file)
    by_hub = load_backbone("test_vit", num_classes=3)
    assert fingerprint(by_hub) == fingerprint(load_backbone("test_vit", num_classes=3, weights=vit_file))


@pytest.mark.parametrize("name", ["test_vit", "test_vit.r160_in1k", "hf-hub:timm/test_vit.r160_in1k"])
def test_absent_download_is_one_clear_error(name: str) -> None:
    with pytest.raises(
        WeightsError, match=r"of hf-hub:timm/test_vit\.r160_in1k is not in the cache.*\n.*--weights"
    ):
        load_backbone(name, num_classes=3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("test_vitt", "There is no backbone 'test_vitt'. Closest: test_vit, "),
        ("vit-b16-sup22k", "Closest: vit-b16-sup21k, "),
        ("vit_tiny_patch16_224.augreg_in21", r"Closest: vit_tiny_patch16_224\.augreg_in21k, "),
        ("timm/test_vit", "Names are timm's"),
        ("", "There is no backbone ''"),
    ],
)
def test_unknown_names_get_the_closest(name: str, message: str) -> None:
    with pytest.raises(BackboneError, match=message):
        load_backbone(name, num_classes=3)


@pytest.mark.parametrize("image_size", [None, 64])
@pytest.mark.parametrize("name", ["test_convnext", "hiera_tiny_224", "test_efficientnet"])
def test_unsupported_backbones_are_refused_before_any_download(
    name: str, image_size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backbones, "fetch", lambda *_: pytest.fail("a download before the refusal"))
    with pytest.raises(UnsupportedBackbone, match=f"found .*{name}"):
        load_backbone(name, num_classes=3, image_size=image_size)


def test_settings_that_cannot_be(vit_file: Path) -> None:
    with pytest.raises(
        BackboneError, match="image_size=100 does not divide into patches of 16 pixels; nearest is 96"
    ):
        load_backbone("test_vit", num_classes=3, weights=vit_file, image_size=100)
    for size in (0, -16):
        with pytest.raises(BackboneError, match=f"image_size={size}"):
            load_backbone("test_vit", num_classes=3, weights=vit_file, image_size=size)
    with pytest.raises(BackboneError, match="num_classes must be 0 or more, got -1"):
        load_backbone("test_vit", num_classes=-1, weights=vit_file)


def test_a_pretrained_size_that_leaves_a_border_is_taken(
    monkeypatch: pytest.MonkeyPatch, vit_file: Path
) -> None:
    border = {"pretrained_cfg_overlay": {"input_size": (3, 167, 167)}}
    preset = Preset(timm_name="test_vit", source="", options=border)
    monkeypatch.setattr(backbones, "PRESETS", {"border": preset})
    assert load_backbone("border", num_classes=3, weights=vit_file, image_size=167).pos_embed.shape[1] == 101


def test_a_model_made_by_hand_has_no_name() -> None:
    assert backbone_name(tiny_vit()) == ""
    assert backbone_name(timm.create_model("test_vit2")) == "test_vit2.r160_in1k"


@pytest.mark.shared
def test_real_vit_tiny(shared: Path) -> None:
    path = shared / "data" / "weights" / "vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors"
    name = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    model = load_backbone(name, num_classes=10, weights=path)
    small = load_backbone(name, num_classes=10, weights=path, image_size=96)
    assert backbone_name(model) == backbone_name(small) == name
    assert fingerprint(model) == fingerprint(small)
    assert small.pos_embed.shape == (1, 37, 192)
    assert resolve_model_data_config(small)["mean"] == (0.5, 0.5, 0.5)
    expected = timm.create_model("vit_tiny_patch16_224", img_size=96, num_classes=1000)
    timm.models.load_checkpoint(
        expected, str(path), filter_fn=timm.models.vision_transformer.checkpoint_filter_fn
    )
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(small.forward_features(images), expected.eval().forward_features(images))


def test_positions_are_still_while_training() -> None:
    """Sapiens2 scales its own by chance, in timm."""
    name = "vit_base_patch16_sapiens2"
    with torch.device("meta"):
        assert timm.create_model(name).rope.aug_active
    assert not planned_backbone(name, num_classes=3).rope.aug_active
