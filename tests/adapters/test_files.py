"""Adapter files: what is loaded is what was saved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.adapter_files import PREPROCESSING
from support.adapters_for_tests import BACKBONES, CONFIGS, fresh, learned, model_of, save, tuned_model
from support.backbones_for_tests import images_for, prompted

import e2vpt
from e2vpt.backbones.fingerprint import fingerprint

pytestmark = pytest.mark.usefixtures("one_thread")


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


def test_loading_draws_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for method in ("e2vpt", "mlp", "lora"):
        model = tuned_model(method)
        save(model, path)
        other = fresh("vit")
        other.reset_classifier(3)
        before = torch.get_rng_state()
        e2vpt.load_adapter(path, other)
        assert torch.equal(torch.get_rng_state(), before), method
