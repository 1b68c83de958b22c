"""Saving adapter files: of compiled, wrapped and frozen models, and what cannot be saved."""

from __future__ import annotations

import copy
import dataclasses
import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from support.adapter_files import PREPROCESSING
from support.adapters_for_tests import fresh, model_of, save, tuned_model
from support.backbones_for_tests import images_for
from torch import nn

import e2vpt
from e2vpt.errors import ConfigError, RunError

pytestmark = pytest.mark.usefixtures("one_thread")


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
