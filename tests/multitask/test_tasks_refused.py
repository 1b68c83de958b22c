"""Adapters, names and images that a batch of many tasks cannot take are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.backbones_for_tests import tiny_swin, tiny_vit
from support.multitask_for_tests import adapter
from torch import nn

import e2vpt
from e2vpt import MultiTask
from e2vpt.errors import AdapterFormatError, BackboneMismatch, ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("make", "options", "why"),
    [
        (tiny_vit, {"method": "full"}, "it tunes .* which all tasks share"),
        (tiny_vit, {"method": "adapter"}, "it tunes .* which all tasks share"),
        (tiny_vit, {"method": "partial"}, "it tunes .* which all tasks share"),
        (tiny_vit, {"method": "vpt-shallow"}, "its prompts travel"),
        (tiny_vit, {"attention": "gated"}, "a softmax of their own"),
        (tiny_swin, {"pool_prompts": True}, "pooled into the feature"),
    ],
)
def test_what_cannot_differ_by_row_is_refused_by_name(
    tmp_path: Path, make: Callable[..., nn.Module], options: dict[str, Any], why: str
) -> None:
    backbone = make(torch.float32)
    adapter(tmp_path / "a", backbone, 0, **options)
    tasks = MultiTask(backbone)
    with pytest.raises(BackboneMismatch, match=rf"method {options.get('method', 'e2vpt')} cannot .* {why}"):
        tasks.load("a", tmp_path / "a")
    assert tasks.names == ()


def test_files_of_other_backbones_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    adapter(tmp_path / "a", tiny_vit(torch.float32), 0)
    other = tiny_vit(torch.float32)
    with torch.no_grad():
        other.blocks[0].mlp.fc1.weight.add_(0.1)
    tasks = MultiTask(other)
    with pytest.raises(BackboneMismatch, match="other weights"):
        tasks.load("a", tmp_path / "a")
    (tmp_path / "b").write_bytes((tmp_path / "a").read_bytes()[:-3])
    with pytest.raises(AdapterFormatError):
        tasks.load("b", tmp_path / "b")
    with pytest.raises(BackboneMismatch, match="blocks"):
        MultiTask(tiny_swin(torch.float32)).load("a", tmp_path / "a")


@pytest.mark.parametrize("name", ["", "x" * 201, "a\nb"])
def test_names_that_cannot_be_are_refused(tmp_path: Path, name: str) -> None:
    backbone = tiny_vit(torch.float32)
    adapter(tmp_path / "a", backbone, 0)
    with pytest.raises(ConfigError, match="A task's name is"):
        MultiTask(backbone).load(name, tmp_path / "a")


@pytest.mark.parametrize(
    ("shape", "names"),
    [((2, 3, 32, 32), ["a"]), ((3, 32, 32), ["a"] * 3), ((1, 3, 32, 32), []), ((0, 3, 32, 32), [])],
)
def test_images_and_names_have_to_match(shape: tuple[int, ...], names: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"images have shape .* a name for each of the B images"):
        MultiTask(tiny_vit(torch.float32))(torch.zeros(shape), names)


def test_a_prompted_backbone_is_refused() -> None:
    with pytest.raises(ConfigError, match="has prompts already"):
        MultiTask(e2vpt.prompt(tiny_vit(torch.float32)))
