"""Adapters are held to a backbone that stays as it is, the second of a kind as strictly as the first."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from support.adapter_files import edited
from support.backbones_for_tests import tiny_vit
from torch import nn

import e2vpt
from e2vpt import MethodConfig, PromptConfig
from e2vpt.adapters import fitting
from e2vpt.adapters.fitting import Fitting
from e2vpt.errors import AdapterFormatError, BackboneMismatch

PREPROCESSING = e2vpt.Preprocessing(image_size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)


def saved(path: Path, backbone: nn.Module, seed: int = 0, beside: Any = "scale", **prompts: Any) -> nn.Module:
    torch.manual_seed(seed)
    model = e2vpt.adapt(
        copy.deepcopy(backbone), "e2vpt", PromptConfig(**prompts), MethodConfig(beside=beside)
    )
    e2vpt.save_adapter(model, path, preprocessing=PREPROCESSING)
    return model


def test_a_kind_of_adapter_is_rehearsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_vit(torch.float32)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    fit = Fitting(backbone)
    rehearsed: list[Path] = []
    real = fitting.rehearse
    monkeypatch.setattr(fitting, "rehearse", lambda path, *rest: rehearsed.append(path) or real(path, *rest))
    for name, seed, options in (
        *(("a", 0, {}), ("b", 1, {})),
        *(("c", 2, {"num_visual": 3}), ("d", 3, {"beside": "bias"})),
    ):
        model = saved(tmp_path / name, backbone, seed, **options)
        info, tensors = fit.read(tmp_path / name)
        assert info.num_visual == tuple(layer.num_visual for layer in e2vpt.prompt_layers(model))
        visual = e2vpt.prompt_layers(model)[0].visual
        assert visual is not None and torch.equal(tensors["blocks.0.visual"], visual)
    assert [path.name for path in rehearsed] == ["a", "c", "d"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    assert not hasattr(backbone, "prompt_config")


def test_the_second_of_a_kind_is_refused_for_other_weights(tmp_path: Path) -> None:
    backbone = tiny_vit(torch.float32)
    other = tiny_vit(torch.float32)
    with torch.no_grad():
        other.norm.weight.add_(0.1)
    fit = Fitting(backbone)
    saved(tmp_path / "mine", backbone)
    saved(tmp_path / "other", other)
    fit.read(tmp_path / "mine")
    with pytest.raises(BackboneMismatch, match="other weights"):
        fit.read(tmp_path / "other")
    (tmp_path / "cut").write_bytes((tmp_path / "mine").read_bytes()[:-1])
    with pytest.raises(AdapterFormatError):
        fit.read(tmp_path / "cut")
    with pytest.raises(BackboneMismatch, match="with 3 blocks"):
        Fitting(tiny_vit(torch.float32, depth=2)).read(tmp_path / "mine")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"pool": "avg"}, "with 'avg' pooling"), ({"preprocessing.image_size": [64, 64]}, "images of .64, 64.")],
)
def test_the_second_of_a_kind_is_refused_for_other_images_or_pooling(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    backbone = tiny_vit(torch.float32)
    fit = Fitting(backbone)
    saved(tmp_path / "mine", backbone)
    fit.read(tmp_path / "mine")
    with pytest.raises(BackboneMismatch, match=message):
        fit.read(edited(tmp_path / "mine", tmp_path / "other", changes))
