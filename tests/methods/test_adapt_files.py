"""Every method is saved and loaded to the bit, on the backbone it was made on."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from support.adapter_files import PREPROCESSING, edited, with_tensors
from support.backbones_for_tests import images_for, tiny_vit
from support.methods_for_tests import BACKBONES, OPTIONS, both_backbones, count, every_method, made, moved
from torch import nn

import e2vpt
from e2vpt.adapters.files import load_adapter, read_adapter, save_adapter
from e2vpt.backbones.fingerprint import fingerprint
from e2vpt.config import MethodConfig
from e2vpt.errors import AdapterFormatError, BackboneMismatch
from e2vpt.methods.adapt import adapted_as, original_fingerprint
from e2vpt.prompting.parts import classifier, find_prompts
from e2vpt.pruning.applying import num_kept

pytestmark = pytest.mark.usefixtures("one_thread")


@both_backbones
@every_method
def test_saved_and_loaded_to_the_bit(kind: str, method: str, tmp_path: Path) -> None:
    model = moved(made(kind, method, dtype=torch.float32)).eval()
    path = tmp_path / "task.safetensors"
    save_adapter(model, path, preprocessing=PREPROCESSING)
    loaded, info = load_adapter(path, BACKBONES[kind](torch.float32))
    images = images_for(model)
    assert torch.equal(loaded(images), model(images))
    beside = "scale" if method == "e2vpt" else "none"
    assert (info.method, info.options) == (method, dataclasses.replace(OPTIONS, beside=beside))
    assert info.num_tuned == count(model) + (num_kept(model) if find_prompts(model) else 0)
    assert info.num_head == sum(p.numel() for p in classifier(model).parameters())
    # Saved again, it is the same file: also where the backbone's own weights have changed.
    save_adapter(loaded, tmp_path / "again.safetensors", preprocessing=PREPROCESSING)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        moved(twin, seed=3)
        assert not torch.equal(twin(images), model(images))
        assert torch.equal(loaded(images), model(images))


@both_backbones
@pytest.mark.parametrize("beside", ["norm", "gamma", "scale"])
def test_what_is_tuned_beside_is_saved_and_loaded_to_the_bit(kind: str, beside: str, tmp_path: Path) -> None:
    model = moved(made(kind, "e2vpt", MethodConfig(beside=beside), torch.float32)).eval()
    path, images = tmp_path / "task.safetensors", images_for(model)
    save_adapter(model, path, preprocessing=PREPROCESSING)
    loaded, info = load_adapter(path, BACKBONES[kind](torch.float32))
    assert torch.equal(loaded(images), model(images))
    assert info.options.beside == beside and info.num_tuned == count(model) + num_kept(model)
    save_adapter(loaded, tmp_path / "again.safetensors", preprocessing=PREPROCESSING)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    other = edited(path, tmp_path / "other.safetensors", {"options": {"beside": "bias"}})
    with pytest.raises(BackboneMismatch, match="was made by method e2vpt"):
        load_adapter(other, BACKBONES[kind](torch.float32))


def test_the_fingerprint_is_that_of_the_untouched_backbone(tmp_path: Path) -> None:
    model = moved(made("vit", "full", dtype=torch.float32))
    assert fingerprint(model) != fingerprint(tiny_vit(torch.float32)) == adapted_as(model).fingerprint
    save_adapter(model, tmp_path / "full.safetensors", preprocessing=PREPROCESSING)
    with pytest.raises(BackboneMismatch, match="has other weights"):
        load_adapter(tmp_path / "full.safetensors", moved(tiny_vit(torch.float32), seed=9))


def test_tensors_that_the_method_does_not_tune_are_refused(tmp_path: Path) -> None:
    path, other = tmp_path / "bias.safetensors", tmp_path / "other.safetensors"
    save_adapter(made("vit", "bias", dtype=torch.float32), path, preprocessing=PREPROCESSING)
    name = "tuned.blocks.0.mlp.fc1.bias"
    for changes, message in (
        ({name: torch.zeros(5)}, r"its blocks.0.mlp.fc1.bias has shape \(5,\), this backbone needs \(96,\)"),
        ({name: None}, r"has shape None, this backbone needs \(96,\)"),
        (
            {"tuned.blocks.0.mlp.fc1.weight": torch.zeros(2, 2)},
            r"has shape \(2, 2\), this backbone needs None",
        ),
    ):
        with pytest.raises(BackboneMismatch, match=message):
            load_adapter(with_tensors(path, other, changes), tiny_vit(torch.float32))
    for changes, message in (
        ({"tuned...": torch.zeros(1)}, "unknown"),
        ({name: torch.full((96,), torch.nan)}, "not finite"),
        ({name: torch.zeros(96, dtype=torch.float16)}, "float16"),
    ):
        with pytest.raises(AdapterFormatError, match=message):
            read_adapter(with_tensors(path, other, changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "magic"}, "method is 'magic'; expected one of e2vpt"),
        ({"options": {"lora_rank": 10**6}}, "lora_rank is 1000000; the most is 256"),
        ({"options": {"rank": 1}}, "MethodConfig has no field 'rank'"),
    ],
)
def test_a_header_of_an_unknown_method(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    save_adapter(
        made("vit", "bias", dtype=torch.float32), tmp_path / "bias.safetensors", preprocessing=PREPROCESSING
    )
    with pytest.raises(AdapterFormatError, match=message):
        read_adapter(edited(tmp_path / "bias.safetensors", tmp_path / "x.safetensors", changes))


def test_an_adapter_of_another_method_s_tensors(tmp_path: Path) -> None:
    save_adapter(
        made("vit", "bias", dtype=torch.float32), tmp_path / "bias.safetensors", preprocessing=PREPROCESSING
    )
    relabelled = edited(tmp_path / "bias.safetensors", tmp_path / "x.safetensors", {"method": "layernorm"})
    with pytest.raises(BackboneMismatch, match="was made by method layernorm"):
        load_adapter(relabelled, tiny_vit(torch.float32))


@pytest.mark.parametrize("method", ["e2vpt", "bias", "lora"])
def test_a_backbone_is_hashed_once_where_it_is_loaded(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, path = made("vit", method, dtype=torch.float32), tmp_path / "task.safetensors"
    hashed: list[nn.Module] = []
    for module in (e2vpt.methods.adapt, e2vpt.adapters.files):
        monkeypatch.setattr(module, "fingerprint", lambda m: hashed.append(m) or fingerprint(m))
    known = original_fingerprint(model)
    hashed.clear()
    save_adapter(model, path, preprocessing=PREPROCESSING, backbone_fingerprint=known)
    assert hashed == []
    load_adapter(path, tiny_vit(torch.float32))
    assert len(hashed) == 1
