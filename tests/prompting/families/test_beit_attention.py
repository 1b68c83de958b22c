"""Prompted BEiTs equal the plain sequence path, in which no prompt has a place and so no bias by position."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.backbones_for_tests import (
    PROMPTS,
    assert_same,
    images_for,
    prompted,
    tiny_beit,
)
from support.oracles.vit import beit_oracle
from torch import Tensor

import e2vpt

pytestmark = pytest.mark.usefixtures("one_thread")

EXACT = 1e-12
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "own-bias": {},
    "shared-bias": {"use_rel_pos_bias": False, "use_shared_rel_pos_bias": True},
    "both": {"use_shared_rel_pos_bias": True},
    "neither": {"use_rel_pos_bias": False, "use_abs_pos_emb": True},
    "no-qkv-bias": {"qkv_bias": False},
    "class-token": {"global_pool": "token"},
    "one-block": {"depth": 1},
}
CASES = [(a, p) for a in ARCHITECTURES for p in ("mixed", "shallow-visual")]
CASES += [("own-bias", p) for p in PROMPTS if p not in ("mixed", "shallow-visual")]


@pytest.mark.parametrize(("architecture", "prompts"), CASES)
def test_logits_and_gradients_equal_the_sequence_path(architecture: str, prompts: str) -> None:
    backbone = tiny_beit(**ARCHITECTURES[architecture])
    model, images = prompted(backbone, **PROMPTS[prompts]), images_for(backbone)
    expected = beit_oracle(backbone, model, images)
    assert_same(model, model(images), expected, EXACT)
    model.set_grad_checkpointing()
    assert_same(model, model.train()(images), expected, EXACT)


@pytest.mark.parametrize("depth", ["deep", "shallow"])
def test_dropout_is_drawn_for_every_image(depth: str, drawn: dict[int, Tensor]) -> None:
    backbone = tiny_beit()
    model = prompted(backbone, num_visual=4, num_kv=2, dropout=0.5, visual_depth=depth).train()
    images = images_for(backbone, 3)
    logits = model(images)
    rows = [drawn.get(id(layer)) for layer in e2vpt.prompt_layers(model)]
    assert any(each is not None and each.dim() == 3 for each in rows)
    assert_same(model, logits, beit_oracle(backbone, model, images, rows), EXACT)


def test_without_prompts_it_is_timms() -> None:
    backbone = tiny_beit()
    model, images = prompted(backbone, num_visual=2), images_for(backbone)
    with e2vpt.disabled(model), torch.no_grad():
        assert float((model(images) - backbone(images)).abs().max()) < EXACT
