"""What `prompt` and `adapt` made of a backbone is undone to the bit, so that adapters can take turns."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from support.backbones_for_tests import (
    GROUPED,
    images_for,
    named_backbone,
    tiny_beit,
    tiny_eva,
    tiny_swin,
    tiny_swin_v2,
    tiny_vit,
    tuned,
)
from torch import nn

import e2vpt
from e2vpt import MethodConfig, PromptConfig
from e2vpt.errors import BackboneMismatch, ConfigError
from e2vpt.methods.adapt import adapt
from e2vpt.methods.names import METHODS, PEFT_METHODS
from e2vpt.prompting.restoring import restore

pytestmark = pytest.mark.usefixtures("one_thread")

BACKBONES: dict[str, Any] = {
    "vit": lambda: tiny_vit(torch.float32),
    "swin": lambda: tiny_swin(torch.float32),
    "map": lambda: named_backbone("siglip-map", torch.float32),
    "eva": lambda: tiny_eva(torch.float32),
    "eva-token": lambda: tiny_eva(torch.float32, global_pool="token"),
    "beit": lambda: tiny_beit(torch.float32),
    "swin-v2": lambda: tiny_swin_v2(torch.float32),
    "eva-grouped": lambda: tiny_eva(torch.float32, **GROUPED),
}
each_backbone = pytest.mark.parametrize("kind", BACKBONES)
KEPT = [method for method in METHODS if method not in ("full", "partial")]
PREPROCESSING = e2vpt.Preprocessing(image_size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)


def moved(backbone: nn.Module, method: str, **options: Any) -> nn.Module:
    """An adapted copy, its tuned values away from where they began."""
    torch.manual_seed(0)
    model = adapt(copy.deepcopy(backbone), method, PromptConfig(num_visual=3), MethodConfig(**options))
    with torch.no_grad():
        for parameter in tuned(model).values():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return model


def assert_plain_again(model: nn.Module, backbone: nn.Module) -> None:
    """The same classes, names, values and switches, but for the head."""
    assert [(name, type(m)) for name, m in model.named_modules()] == [
        (name, type(m)) for name, m in backbone.named_modules()
    ]
    head = {id(p) for p in model.get_classifier().parameters()}  # type: ignore[operator]
    for (name, mine), (other, theirs) in zip(
        model.named_parameters(), backbone.named_parameters(), strict=True
    ):
        assert name == other and mine.requires_grad == theirs.requires_grad
        assert id(mine) in head or torch.equal(mine, theirs), name
    assert vars(model).keys() == vars(backbone).keys()
    images = images_for(backbone)
    assert torch.equal(
        model.forward_features(images),  # type: ignore[operator]
        backbone.forward_features(images),  # type: ignore[operator]
    )


@each_backbone
@pytest.mark.parametrize("method", KEPT)
def test_any_method_is_undone(kind: str, method: str) -> None:
    if method in PEFT_METHODS and kind == "map":
        pytest.importorskip("peft")
    backbone = BACKBONES[kind]()
    model = moved(backbone, method)
    restore(model)
    assert_plain_again(model, backbone)


@each_backbone
@pytest.mark.parametrize("beside", ["none", "bias", "norm", "gamma", "scale"])
def test_what_is_tuned_beside_prompts_is_undone(kind: str, beside: str) -> None:
    backbone = BACKBONES[kind]()
    model = moved(backbone, "e2vpt", beside=beside)
    model = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    restore(model)
    assert_plain_again(model, backbone)


@pytest.mark.parametrize("method", ["full", "partial"])
def test_tuned_matrices_cannot_be_undone(method: str) -> None:
    model = moved(tiny_vit(torch.float32), method)
    with pytest.raises(ConfigError, match=r"was tuned itself \(.*Load a fresh backbone"):
        restore(model)


def test_a_plain_backbone_stays_as_it_is() -> None:
    backbone = tiny_vit(torch.float32)
    model = copy.deepcopy(backbone)
    restore(model)
    assert_plain_again(model, backbone)


def saved(path: Path, backbone: nn.Module, method: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = copy.deepcopy(backbone)
    model.reset_classifier(3 + seed)  # type: ignore[operator]
    model = moved(model, method)
    e2vpt.save_adapter(model, path, preprocessing=PREPROCESSING)
    return model.eval()


def test_adapters_take_turns_on_one_backbone(tmp_path: Path) -> None:
    backbone = tiny_vit(torch.float32)
    methods = ["e2vpt", "bias", "lora", "vpt-shallow", "adapter", "linear", "e2vpt", "mlp", "sidetune"]
    models = [saved(tmp_path / str(i), backbone, method, i) for i, method in enumerate(methods)]
    shared, images = copy.deepcopy(backbone), images_for(backbone)
    order = list(enumerate(models))
    for index, model in [*order, *order[::-1]]:
        loaded, info = e2vpt.load_adapter(tmp_path / str(index), shared)
        assert loaded is shared and info.method == methods[index]
        assert torch.equal(loaded(images), model(images))


def test_an_adapter_that_does_not_fit_leaves_the_one_that_is_there(tmp_path: Path) -> None:
    backbone = tiny_vit(torch.float32)
    model = saved(tmp_path / "a", backbone, "e2vpt", 0)
    other = tiny_vit(torch.float32, depth=2)
    saved(tmp_path / "other", other, "e2vpt", 1)
    changed = copy.deepcopy(backbone)
    with torch.no_grad():
        changed.blocks[0].mlp.fc1.weight.add_(1)  # type: ignore[union-attr, index, operator]
    saved(tmp_path / "changed", changed, "e2vpt", 1)
    images = images_for(backbone)
    loaded, _ = e2vpt.load_adapter(tmp_path / "a", copy.deepcopy(backbone))
    for name in ("other", "changed"):
        with pytest.raises(BackboneMismatch):
            e2vpt.load_adapter(tmp_path / name, loaded)
        assert torch.equal(loaded(images), model(images))
    trained = moved(backbone, "full")
    with pytest.raises(ConfigError, match="was tuned itself"):
        e2vpt.load_adapter(tmp_path / "a", trained)


@each_backbone
@pytest.mark.parametrize("beside", ["none", "bias", "norm", "gamma", "scale"])
def test_a_backbone_that_was_cast_is_restored_as_a_whole(kind: str, beside: str) -> None:
    backbone = BACKBONES[kind]()
    model = moved(backbone, "e2vpt", beside=beside).double()
    restore(model)
    assert_plain_again(model, copy.deepcopy(backbone).double())


@pytest.mark.parametrize("cast", [torch.float64, torch.bfloat16])
def test_a_second_adapter_goes_on_a_backbone_that_was_cast(tmp_path: Path, cast: torch.dtype) -> None:
    backbone = tiny_vit(torch.float32)
    adapter = saved(tmp_path / "a", backbone, "e2vpt", 0)
    model, _ = e2vpt.load_adapter(tmp_path / "a", backbone)
    model, _ = e2vpt.load_adapter(tmp_path / "a", model.to(cast))
    images = images_for(backbone)
    assert torch.equal(model.to(cast)(images), adapter.to(cast)(images))


def test_a_restored_backbone_follows_its_device_and_mode(tmp_path: Path) -> None:
    backbone = tiny_swin(torch.float32)
    model = moved(backbone, "e2vpt").double().train()
    restore(model)
    assert model.training and all(module.training for module in model.modules())
    assert {t.dtype for t in model.state_dict().values() if t.is_floating_point()} == {torch.float64}
    backbone = copy.deepcopy(backbone).double()
    assert_plain_again(model.eval(), backbone)
