"""Prompts that travel come in before the first block and go out behind the last, or the model says so."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from support.backbones_for_tests import images_for, prompted, relative, tiny_beit, tiny_eva, tiny_vit

import e2vpt
from e2vpt.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")

FAMILIES = [tiny_vit, tiny_eva, tiny_beit]


@pytest.mark.parametrize("kept", [slice(0, 2), slice(1, 3)])
@pytest.mark.parametrize("make", FAMILIES)
@pytest.mark.parametrize("pooling", ["avg", "token"])
def test_travelling_prompts_do_not_stay_where_a_block_was_taken_off(
    make: Any, kept: slice, pooling: str
) -> None:
    model = prompted(make(global_pool=pooling), num_visual=4, num_kv=0, visual_depth="shallow")
    images = images_for(model)
    model.blocks = model.blocks[kept]
    for run in (model, model.forward_features):
        with pytest.raises(ConfigError, match=r"taken off this model .*before e2vpt.prompt"):
            run(images)
    if kept.start == 0:
        with e2vpt.disabled(model):
            assert model(images).shape == (2, 7)


@pytest.mark.parametrize("make", FAMILIES)
def test_a_copy_has_edges_of_its_own(make: Any) -> None:
    model = prompted(make(), num_visual=4, num_kv=0, visual_depth="shallow")
    images = images_for(model)
    expected = model(images)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        model.blocks = model.blocks[:1]
        assert torch.equal(other(images), expected)
        model.blocks = other.blocks


@pytest.mark.parametrize("make", FAMILIES)
def test_without_a_prompt_left_nothing_travels(make: Any) -> None:
    plain = make()
    model = prompted(plain, num_visual=4, num_kv=0, visual_depth="shallow")
    e2vpt.prompt_layers(model)[0].resize(visual=None, keep=None)
    assert relative(model(images_for(model)), plain(images_for(model))) < 1e-12
