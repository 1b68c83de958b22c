"""Adapter files: what is loaded is what was saved, and every file that cannot be used says why."""

from __future__ import annotations

import copy
import dataclasses
import errno
import json
import os
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
from support.adapter_files import PREPROCESSING, edited, with_tensors
from support.backbones_for_tests import images_for, prompted, randomise, tiny_swin, tiny_vit
from torch import Tensor, nn

import e2vpt
from e2vpt.backbones.demo import DEMO_WEIGHTS
from e2vpt.backbones.fingerprint import fingerprint
from e2vpt.backbones.load import without_memory
from e2vpt.errors import (
    AdapterFormatError,
    BackboneError,
    BackboneMismatch,
    ConfigError,
    RunError,
    UnsupportedBackbone,
    WeightsError,
)
from e2vpt.files.container import read_container
from e2vpt.pruning.applying import apply, visual_kept
from e2vpt.pruning.scores import Scores
from e2vpt.pruning.selection import select

pytestmark = pytest.mark.usefixtures("one_thread")

BACKBONES: dict[str, nn.Module] = {
    "vit": tiny_vit(torch.float32),
    "vit-avg": tiny_vit(torch.float32, global_pool="avg"),
    "swin": tiny_swin(torch.float32),
}
CONFIGS: dict[str, dict[str, Any]] = {
    "default": {},
    "separate": {"share_kv": False, "num_visual": 3, "num_kv": 2},
    "shallow": {"visual_depth": "shallow", "kv_depth": "shallow", "num_visual": 4, "num_kv": 3},
    "visual-only": {"num_kv": 0, "num_visual": 2, "dropout": 0.1},
    "key-value-only": {"num_visual": 0, "share_kv": False},
    "per-block": {"num_visual": (3, 0, 1, 2), "num_kv": (0, 2, 1, 0)},
    "linear": {"num_visual": 0, "num_kv": 0},
    "gated": {"attention": "gated", "num_visual": 3, "num_kv": 2},
}


def model_of(backbone: str, config: str) -> nn.Module:
    settings = dict(CONFIGS[config])
    if backbone != "swin" and config == "per-block":
        settings = {name: counts[:3] for name, counts in settings.items()}
    return prompted(BACKBONES[backbone], **settings)


def fresh(backbone: str) -> nn.Module:
    return copy.deepcopy(BACKBONES[backbone])


def save(model: nn.Module, path: Path, **options: Any) -> int:
    return e2vpt.save_adapter(model, path, **({"preprocessing": PREPROCESSING} | options))


def learned(model: nn.Module) -> dict[str, Tensor]:
    """Everything of the task, by name: prompts, masks and head."""
    found = {}
    for index, layer in enumerate(e2vpt.prompt_layers(model)):
        found |= {f"{index}.{name}": getattr(layer, name) for name in ("key", "value", "keep", "gate")}
        if layer.visual is not None:  # what is masked is not stored
            found[f"{index}.visual"] = layer.visual * layer.keep
    found |= {f"head.{name}": tensor for name, tensor in model.get_classifier().state_dict().items()}
    return {name: tensor.detach() for name, tensor in found.items() if tensor is not None}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "task.safetensors"


@pytest.fixture
def saved(path: Path) -> Path:
    save(model_of("vit", "separate"), path)
    return path


# What is loaded is what was saved.


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_round_trip_is_bit_exact(backbone: str, config: str, path: Path) -> None:
    model = model_of(backbone, config)
    size = save(model, path)
    loaded, info = e2vpt.load_adapter(path, fresh(backbone))
    expected, found = learned(model), learned(loaded)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    images = images_for(model)
    with torch.no_grad():
        assert torch.equal(loaded(images), model.eval()(images))
    assert not loaded.training
    assert size == info.bytes == path.stat().st_size
    assert info.prompts == model.prompt_config and info.pool == model.global_pool


@pytest.mark.parametrize("config", CONFIGS)
def test_info_counts_what_was_tuned(config: str, path: Path) -> None:
    model = model_of("swin", config)
    save(model, path)
    info = e2vpt.read_adapter(path)
    layers = e2vpt.prompt_layers(model)
    masked = sum(int((layer.keep == 0).sum()) for layer in layers if layer.keep is not None)
    tuned = {id(p): p.numel() for layer in layers for p in layer.parameters()}
    assert info.num_tuned == sum(tuned.values()) - masked
    assert info.num_head == 5 * 32 + 5
    assert info.num_visual == tuple(layer.num_visual for layer in layers)
    assert info.num_kv == tuple(layer.num_kv for layer in layers)
    kept = [layer.keep for layer in layers if layer.keep is not None]
    total = sum(keep.numel() for keep in kept)
    assert info.visual_kept == pytest.approx(
        sum(float(k.sum()) for k in kept) / total if total else 1, abs=1e-12
    )
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert info.num_tuned + info.num_head == trainable - masked


def test_info_tells_what_was_given(path: Path) -> None:
    metrics = {"val_accuracy": 0.75, "epochs": torch.tensor(3)}
    names = ["Katze, grau", "狗", "🐈", "a", "b", "c", "d"]
    save(model_of("vit", "linear"), path, classes=names, metrics=metrics, method="linear")
    info = e2vpt.read_adapter(str(path))
    assert info.classes == tuple(names) and info.method == "linear" and info.backbone == ""
    assert info.metrics == {"val_accuracy": 0.75, "epochs": 3.0}
    assert info.preprocessing == PREPROCESSING and info.precision == "fp32"
    assert info.versions.keys() == {"python", "e2vpt", "timm", "torch"}
    assert info.fingerprint == fingerprint(BACKBONES["vit"])


def test_classes_are_numbered_where_not_given(saved: Path) -> None:
    assert e2vpt.read_adapter(saved).classes == tuple("0123456")


def test_half_precision_is_rounding_to_half(path: Path) -> None:
    model = model_of("swin", "separate")
    full = save(model, path)
    half = save(model, path, precision="fp16")
    loaded, info = e2vpt.load_adapter(path, fresh("swin"))
    assert info.precision == "fp16" and half < 0.75 * full
    for name, tensor in learned(model).items():
        assert learned(loaded)[name].dtype == torch.float32
        assert torch.equal(learned(loaded)[name], tensor.half().float())
    again = path.with_name("again")
    save(loaded, again, precision="fp16")
    assert again.read_bytes() == path.read_bytes()


def test_the_same_model_makes_the_same_bytes(path: Path) -> None:
    contents = set()
    for _ in range(8):
        save(model_of("vit", "default"), path, metrics={"b": 1.0, "a": 2.0})
        contents.add(path.read_bytes())
    loaded, _ = e2vpt.load_adapter(path, fresh("vit"))
    save(loaded, path, metrics={"a": 2.0, "b": 1.0})
    contents.add(path.read_bytes())
    assert len(contents) == 1


def test_a_full_mask_is_not_stored_and_counts_after_pruning_are(path: Path) -> None:
    model = model_of("vit", "default")
    first, second, third = e2vpt.prompt_layers(model)
    first.keep.fill_(1)
    second.resize(visual=second.visual[:4], keep=second.keep[:4])
    third.key = third.value = None
    save(model, path)
    tensors = read_container(path)[1]
    assert "blocks.2.key" not in tensors
    assert tensors["blocks.0.visual"].shape == (480,)
    assert tensors["blocks.1.visual"].shape == (int(second.keep.sum()),)
    loaded, info = e2vpt.load_adapter(path, fresh("vit"))
    assert info.num_visual == (10, 4, 10) and info.num_kv == (5, 5, 0)
    assert torch.equal(e2vpt.prompt_layers(loaded)[0].keep, torch.ones(10, 48))
    with torch.no_grad():
        assert torch.equal(loaded(images_for(model)), model(images_for(model)))
    for layer in (second, third):
        layer.keep.fill_(1)
    save(model, path)
    assert "keep" not in read_container(path)[1] and e2vpt.read_adapter(path).segments == ()


def random_scores(model: nn.Module, shared: bool, segments: int = 8) -> Scores:
    """For each part of the prompts a random score, the same in every block or not."""
    generator = torch.Generator().manual_seed(4)

    def draw(counts: list[int], *shape: int) -> tuple[Tensor, ...]:
        one = {n: torch.rand(n, *shape, generator=generator) for n in counts}
        return tuple(one[n] if shared else torch.rand(n, *shape, generator=generator) for n in counts)

    layers = e2vpt.prompt_layers(model)
    visual, kv = [layer.num_visual for layer in layers], [layer.num_kv for layer in layers]
    parts = {"tokens": draw(visual), "segments": draw(visual, segments), "key_value": draw(kv)}
    return Scores(**parts, shared=shared, layout="strided")


@pytest.mark.parametrize("layout", ["strided", "contiguous"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("config", ["default", "separate", "shallow"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_pruned_prompts_are_stored_compactly_and_come_back_whole(
    backbone: str, config: str, shared: bool, layout: Any, path: Path
) -> None:
    model = model_of(backbone, config)
    for layer in e2vpt.prompt_layers(model):
        if layer.keep is not None:
            layer.keep.fill_(1)
    before = save(model, path)
    scores = dataclasses.replace(random_scores(model, shared), layout=layout)
    apply(model, select(scores, tokens=0.7, segments=0.5))
    size = save(model, path)
    tensors = read_container(path)[1]
    stored = sum(t.numel() for name, t in tensors.items() if name.endswith(".visual"))
    layers = e2vpt.prompt_layers(model)
    assert stored == sum(int(layer.keep.sum()) for layer in layers if layer.keep is not None)
    freed = 4 * (sum(layer.visual_before for layer in layers) - stored)
    assert tensors["keep"].numel() <= sum(layer.num_visual for layer in layers)  # 8 segments, a bit each
    assert size <= before - freed + 300

    loaded, info = e2vpt.load_adapter(path, fresh(backbone))
    assert info.visual_kept == visual_kept(model) == visual_kept(loaded) < 0.6
    assert info.layout in ("strided", "contiguous")
    with torch.no_grad():
        assert torch.equal(loaded(images_for(model)), model.eval()(images_for(model)))
    expected, found = learned(model), learned(loaded)
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    again = path.with_name("again")
    save(loaded, again)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("kept", [0, 9, 100])
def test_nearly_empty_masks_are_stored_beside_whole_prompts(kept: int, path: Path) -> None:
    """Loading them would otherwise take memory out of proportion to the file."""
    model = model_of("vit", "default")
    for layer in e2vpt.prompt_layers(model):
        layer.keep.zero_()
        layer.keep.view(-1)[:kept] = 1
    save(model, path)
    assert read_container(path)[1]["blocks.0.visual"].shape == (10, 48)
    loaded, info = e2vpt.load_adapter(path, fresh("vit"))
    assert info.visual_kept == kept / 480 and info.num_visual == (10, 10, 10)
    assert info.num_tuned == 3 * kept + sum(layer.key.numel() for layer in e2vpt.prompt_layers(model))
    again = path.with_name("again")
    save(loaded, again)
    assert again.read_bytes() == path.read_bytes()
    with torch.no_grad():
        assert torch.equal(loaded(images_for(model)), model.eval()(images_for(model)))


@pytest.mark.parametrize("classes", [0, 1, 7, 9])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_head_of_the_backbone_does_not_matter(backbone: str, classes: int, path: Path) -> None:
    model = model_of(backbone, "default")
    save(model, path)
    other = fresh(backbone)
    other.reset_classifier(classes)
    loaded, info = e2vpt.load_adapter(path, other)
    assert loaded is other and loaded.num_classes == len(info.classes) == model.num_classes
    with torch.no_grad():
        assert torch.equal(loaded(images_for(model)), model(images_for(model)))
    trainable = {name for name, p in loaded.named_parameters() if p.requires_grad}
    assert trainable == {name for name, p in model.named_parameters() if p.requires_grad}
    assert all("prompts" in name or name.startswith("head.") for name in trainable)
    assert any(name.startswith("head.") for name in trainable)


def test_a_fresh_head_lies_where_the_backbone_lies(path: Path) -> None:
    save(model_of("vit", "default"), path)
    other = fresh("vit").double()
    other.reset_classifier(3)
    loaded, _ = e2vpt.load_adapter(path, other)
    assert loaded.head.weight.dtype == torch.float64


def test_a_pooled_swin(path: Path) -> None:
    model = prompted(BACKBONES["swin"], visual_depth="shallow", pool_prompts=True, num_visual=2)
    save(model, path)
    loaded, _ = e2vpt.load_adapter(path, fresh("swin"))
    with torch.no_grad():
        assert torch.equal(loaded(images_for(model)), model(images_for(model)))


# Backbones by name.


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


@pytest.mark.skipif(not DEMO_WEIGHTS.is_file(), reason="the demo backbone's weights are not built yet")
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


# Other backbones.


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


def tuned_model(method: str, backbone: str = "vit", **prompts: Any) -> nn.Module:
    """A model of a method whose parameters are all away from their start."""
    settings = e2vpt.PromptConfig(init="uniform", kv_init="normal", **prompts)
    model = e2vpt.adapt(fresh(backbone), method, settings, e2vpt.MethodConfig(beside="none"))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize(("method", "other"), [("bias", "linear"), ("bias", "layernorm"), ("lora", "dora")])
def test_what_another_method_tunes_changes_nothing(method: str, other: str, saved: Path) -> None:
    save(tuned_model(method), saved)
    named = edited(saved, saved.with_name("other"), {"method": other})
    refused(named, fresh("vit"), f"was made by method {other}: its .* has shape")


def test_loading_draws_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for method in ("e2vpt", "mlp", "lora"):
        model = tuned_model(method)
        save(model, path)
        other = fresh("vit")
        other.reset_classifier(3)
        before = torch.get_rng_state()
        e2vpt.load_adapter(path, other)
        assert torch.equal(torch.get_rng_state(), before), method


# Compiled, wrapped and frozen models.


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")  # type: ignore[return-value]


def in_parts(model: nn.Module) -> nn.Module:
    """Blocks and head compiled each on its own, as large models are."""
    for index, block in enumerate(model.blocks):
        model.blocks[index] = compiled(block)
    model.head = compiled(model.head)
    return model


WRAPPERS: dict[str, Any] = {
    "whole": compiled,
    "in parts": in_parts,
    "parallel": nn.DataParallel,
    "both": lambda model: nn.DataParallel(compiled(model)),
    "frozen": lambda model: model.requires_grad_(False),
}


@pytest.mark.parametrize("method", ["e2vpt", "bias", "mlp", "adapter"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapped_model_makes_the_bytes_of_the_plain_one(method: str, wrapper: str, path: Path) -> None:
    model = tuned_model(method)
    save(model, path)
    again = path.with_name("again")
    save(WRAPPERS[wrapper](copy.deepcopy(model)), again)
    assert again.read_bytes() == path.read_bytes()
    loaded, _ = e2vpt.load_adapter(again, fresh("vit"))
    with torch.no_grad():
        assert torch.equal(loaded(images_for(model)), model.eval()(images_for(model)))


def test_what_no_method_tunes_is_not_saved(path: Path) -> None:
    """`load_adapter` could not know of it."""
    model = tuned_model("e2vpt")
    model.norm.requires_grad_(True)
    with pytest.raises(ConfigError, match=r"method e2vpt cannot hold norm.bias, norm.weight"):
        save(model, path)
    assert not path.exists()


# Files that cannot be used.


def unreadable(path: Path, message: str) -> None:
    for read in (e2vpt.read_adapter, lambda file: e2vpt.load_adapter(file, fresh("vit"))):
        with pytest.raises(AdapterFormatError, match=message) as caught:
            read(path)
        assert str(caught.value).isprintable() and len(str(caught.value)) < 1200


def test_truncated_at_every_fiftieth(saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    for part in range(50):
        (tmp_path / "cut").write_bytes(content[: len(content) * part // 50])
        with pytest.raises(AdapterFormatError, match=r"cut is damaged or not an e2vpt file: .*Copy it again"):
            e2vpt.load_adapter(tmp_path / "cut", BACKBONES["vit"])


def test_no_adapter_at_all(path: Path, tmp_path: Path) -> None:
    unreadable(path, r"Cannot read .*task.safetensors: No such file or directory")
    unreadable(tmp_path, "Cannot read .*: it is not a file")
    path.write_bytes(b"")
    unreadable(path, "is damaged or not an e2vpt file: it has 0 bytes")
    path.write_bytes(b"GIF89a" + bytes(200))
    unreadable(path, "is damaged or not an e2vpt file")
    safetensors.torch.save_file(BACKBONES["vit"].state_dict(), path)
    unreadable(path, "is a safetensors file, but not one of e2vpt")
    torch.save({"head.weight": torch.ones(3)}, path)
    unreadable(path, "is damaged or not an e2vpt file")


def test_a_newer_format(saved: Path, tmp_path: Path) -> None:
    newer = edited(saved, tmp_path / "newer", {"format": 2, "prompts": "of another kind"})
    unreadable(
        newer, "newer has adapter format 2; this e2vpt reads up to 1. Upgrade it: pip install -U e2vpt"
    )
    for value in (0, -1, "1", 1.0, True, None, [1], "\x1b[31m" * 1000):
        strange = edited(saved, tmp_path / "strange", {"format": value})
        unreadable(strange, "the header's format is .*; expected a whole number from 1")
    unreadable(edited(saved, tmp_path / "huge", {"format": 10**4000}), "has adapter format 1000.*Upgrade it")
    unreadable(edited(saved, tmp_path / "none", {}, drop=("format",)), "the header's format is None")


def test_a_checkpoint_is_no_adapter(tmp_path: Path, saved: Path) -> None:
    header = {"kind": "checkpoint"}
    e2vpt.files.container.write_container(tmp_path / "c", header, read_container(saved)[1])
    unreadable(tmp_path / "c", "the header's format is None")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks": 4, "prompts.num_visual": 3}, r"promise other tensors: missing .*blocks.3.key"),
        ({"prompts.num_visual": 9_999}, r"tensor keep has shape \[\d+\]; expected \["),
        ({"prompts.num_visual": 10**9}, r"num_visual is 1000000000; the most is 10000"),
        (
            {"prompts.num_kv": 3},
            r"blocks.0.key is torch.float32 \[3, 2, 16\]; expected .*\['any', 3, 'any'\]",
        ),
        ({"prompts.dropout": 10**400}, ""),
        ({"classes": ["a", "b"]}, r"is torch.float32 \[7.*expected torch.float32 \[2"),
        ({"classes": list("aabcdef")}, "two classes have the same name"),
        ({"classes": ["\x1b[2J", *"abcdef"]}, r"'\\x1b\[2J' is not a printable name"),
        ({"metrics": {"val": 10**400}}, "a metric is 1000"),
        (
            {"metrics": {"val_accuracy": 1.5}},
            "the metric val_accuracy is 1.5; expected an accuracy from 0 to 1",
        ),
        ({"metrics": {"val_loss": -0.1}}, "the metric val_loss is -0.1"),
        ({"fingerprint": "A" * 64}, "fingerprint is .*expected 64 digits in hex"),
        ({"licence": "none"}, "format 1 has no field 'licence'"),
        ({"method": "linear"}, "method linear has no room for the prompts 3, 2"),
        ({"method": "vpt-deep"}, "method vpt-deep has no room"),
        ({"method": "kv"}, "method kv has no room"),
        ({"method": "full"}, "method full has no room"),
        ({"backbone": "/etc/passwd"}, "'/etc/passwd' was found where letters"),
        ({"backbone": "vit\nsmall"}, r"'vit\\nsmall' was found where letters"),
        ({"preprocessing.image_size": [10**9, 10**9]}, "image_size is .*expected sides from 8 to"),
        ({"preprocessing": {"\x1b[31m": 1}}, r"Preprocessing has \\x1b\[31m; expected exactly image_size"),
        ({"preprocessing.interpolation": "\x1b" * 5000}, "interpolation is .*"),
        ({"method": "m" * 300_000}, r"'m+ \.\.\."),
    ],
)
def test_headers_that_cannot_be(saved: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    unreadable(edited(saved, tmp_path / "bad", changes), f"bad: the header cannot be used: .*({message})")


@pytest.mark.parametrize("method", ["linear", "lora", "bias"])
def test_a_method_without_visual_prompts_pruned_none(tmp_path: Path, method: str) -> None:
    model = e2vpt.adapt(fresh("vit"), method, e2vpt.PromptConfig())
    save(model, tmp_path / "whole", classes=list("abcdefg"))
    blocks = read_container(tmp_path / "whole")[0]["blocks"]
    changed = edited(tmp_path / "whole", tmp_path / "bad", {"visual_before": [32] * blocks})
    unreadable(changed, f"visual_before is .*; method {method} has no visual prompts")


def test_a_missing_field_is_named(saved: Path, tmp_path: Path) -> None:
    for field in json.loads(json.dumps(read_container(saved)[0])):
        if field != "format":
            unreadable(
                edited(saved, tmp_path / "bad", {}, drop=(field,)), f"cannot be used: it has no '{field}'"
            )


def test_nothing_of_a_bad_head_is_left_random(saved: Path, tmp_path: Path) -> None:
    """Without its bias, a head would keep whatever the backbone had there."""
    unreadable(with_tensors(saved, tmp_path / "bad", {"head.bias": None}), r"missing \['head.bias'\]")


# Saving.


def test_models_that_cannot_be_saved(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no prompts; call e2vpt.prompt"):
        save(fresh("vit"), path)
    model = model_of("vit", "default")
    with pytest.raises(ConfigError, match="3 class names for a head of 7 outputs"):
        save(model, path, classes=["a", "b", "c"])
    for names, problem in (
        (["a"] * 7, "two classes have the same name"),
        ([*"abcdef", "\x1b[31m"], r"'\\x1b\[31m' is not a printable name"),
        ([], "there are none"),
    ):
        with pytest.raises(ConfigError, match=f"These class names cannot be stored: {problem}"):
            save(model, path, classes=names)
    for options, problem in (
        ({"metrics": {"val": float("nan")}}, "a metric is nan"),
        ({"metrics": {"val accuracy": 0.5}}, "'val accuracy' was found"),
        ({"method": "my method"}, "method is 'my method'; expected one of e2vpt"),
    ):
        with pytest.raises(ConfigError, match=f"cannot be stored as an adapter: {problem}"):
            save(model, path, **options)
    other = dataclasses.replace(PREPROCESSING, image_size=(64, 64))
    with pytest.raises(ConfigError, match=r"makes images of \(64, 64\), the model needs \(32, 32\)"):
        save(model, path, preprocessing=other)
    model.reset_classifier(0)
    with pytest.raises(ConfigError, match="holds a linear head with a bias; this model's head is Identity"):
        save(model, path)
    assert not path.exists()


def test_numbers_that_would_be_lost(path: Path) -> None:
    model = model_of("vit", "default")
    with torch.no_grad():
        e2vpt.prompt_layers(model)[1].visual[0, 1] = 70_000  # beyond the largest half
    with pytest.raises(
        ConfigError, match=r"blocks.1.visual has values that are not finite numbers in torch.float16"
    ):
        save(model, path, precision="fp16")
    save(model, path)
    with torch.no_grad():
        model.head.bias[0] = torch.nan
    with pytest.raises(
        ConfigError, match=r"head.bias has values that are not finite numbers in torch.float32"
    ):
        save(model, path)
    assert e2vpt.read_adapter(path).precision == "fp32"


def test_a_full_disk_keeps_the_old_adapter(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=r"Could not write .*task.safetensors .*: No space left on device"):
            save(model_of("vit", "default"), saved)
    assert saved.read_bytes() == before and list(saved.parent.iterdir()) == [saved]
    with pytest.raises(RunError, match=r"Could not write .*Not a directory"):
        save(model_of("vit", "default"), saved / "below.safetensors")
    e2vpt.load_adapter(saved, fresh("vit"))


def test_what_would_be_ignored_or_cannot_be_is_refused(saved: Path, tmp_path: Path) -> None:
    model, _ = e2vpt.load_adapter(saved, tiny_vit(torch.float32))
    with pytest.raises(ConfigError, match="weights have no effect beside a backbone that is a model"):
        e2vpt.load_adapter(saved, tiny_vit(torch.float32), weights="nowhere.pth")
    with pytest.raises(ConfigError, match="precision is 'bf16'; expected one of"):
        e2vpt.save_adapter(model, tmp_path / "x.safetensors", precision="bf16")  # type: ignore[arg-type]
