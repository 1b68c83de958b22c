"""Adapter files of pruned models: what is masked is not stored, and comes back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from support.adapters_for_tests import BACKBONES, fresh, learned, model_of, save
from support.backbones_for_tests import images_for
from torch import Tensor, nn

import e2vpt
from e2vpt.files.container import read_container
from e2vpt.pruning.applying import apply, visual_kept
from e2vpt.pruning.scores import Scores
from e2vpt.pruning.selection import select

pytestmark = pytest.mark.usefixtures("one_thread")


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
