"""The short way to logits: one row of the last block where one is read, all rows where somebody listens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.backbones_for_tests import images_for, prompted, relative, tiny_vit
from support.oracles.vit import vit_oracle
from support.prompting_for_tests import RowCounter

import e2vpt

pytestmark = pytest.mark.usefixtures("one_thread")

EXACT = 1e-12


@pytest.mark.parametrize(
    ("architecture", "last"),
    [
        ({}, 1),
        ({"reg_tokens": 3}, 1),
        ({"global_pool": "avg"}, 17),
        ({"global_pool": "map", "class_token": False}, 16),
        ({"global_pool": "max"}, 17),
    ],
)
def test_the_last_block_is_short_for_class_token_pooling_only(
    architecture: dict[str, Any], last: int
) -> None:
    model = prompted(tiny_vit(**architecture), num_visual=4, num_kv=2)
    counter, images = RowCounter(model), images_for(model)
    model(images)
    assert counter.rows[-1] == last
    counter.rows.clear()
    model.forward_features(images)
    assert counter.rows[-1] == counter.rows[0]


def test_a_pooling_chosen_later_is_followed() -> None:
    backbone = tiny_vit()
    model = prompted(backbone, num_visual=4, num_kv=2)
    images = images_for(model)
    for each in (backbone, model):
        torch.manual_seed(0)
        each.reset_classifier(5, global_pool="avg")
        each.to(torch.float64)
    assert relative(model(images), vit_oracle(backbone, model, images)[1]) < EXACT


@pytest.mark.parametrize("path", ["blocks", "blocks.2", "blocks.2.attn", "norm"])
def test_hooks_hear_all_rows(path: str) -> None:
    """A tool that listens to the last block hears what timm would have said; without it the path is short."""
    model = prompted(tiny_vit(), num_visual=2)
    images, heard = images_for(model), []
    expected = model(images)
    hook = model.get_submodule(path).register_forward_hook(lambda _, __, out: heard.append(out.shape[1]))
    assert relative(model(images), expected) < EXACT
    assert heard == [17]
    hook.remove()
    counter = RowCounter(model)
    model(images)
    assert counter.rows == [17, 17, 1]


INSIDE = ["norm1", "norm2", "mlp", "mlp.fc1", "mlp.act", "attn.qkv", "attn.proj", "attn.q_norm"]


@pytest.mark.parametrize("path", INSIDE)
def test_hooks_inside_the_last_block_hear_what_they_hear_in_timm(path: str) -> None:
    plain = tiny_vit()
    model, images = prompted(plain, num_visual=0, num_kv=2), images_for(plain)
    heard: list[list[int]] = []
    expected = model(images)
    for each in (plain, model):
        part = each.blocks[-1].get_submodule(path)
        part.register_forward_hook(lambda _, __, out: heard.append(list(out.shape)))
    plain(images)
    assert relative(model(images), expected) < EXACT
    assert heard[0] == heard[1]


@pytest.mark.parametrize("kind", ["full_backward_hook", "full_backward_pre_hook", "forward_pre_hook"])
@pytest.mark.parametrize("path", ["blocks.2", "blocks.2.attn", "norm"])
def test_every_kind_of_hook_hears_all_rows(path: str, kind: str) -> None:
    model = prompted(tiny_vit(), num_visual=2)
    images, heard = images_for(model), []
    part = model.get_submodule(path)
    hook = getattr(part, f"register_{kind}")(lambda _, *given: heard.append(given[-1][0].shape[1]))
    model(images).sum().backward()
    hook.remove()
    assert heard == [17]


def test_blocks_taken_off_later_are_not_missed() -> None:
    plain = tiny_vit()
    model, images = prompted(plain, num_visual=4, num_kv=2), images_for(plain)
    for each in (plain, model):
        each.blocks = each.blocks[:2]
    assert relative(model(images), vit_oracle(plain, model, images)[1]) < EXACT
    with e2vpt.disabled(model):
        assert relative(model(images), plain(images)) < EXACT
