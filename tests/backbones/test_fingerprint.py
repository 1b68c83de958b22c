"""The fingerprint changes with the weights of the backbone, and with nothing else."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from support.backbones_for_tests import GROUPED, tiny_beit, tiny_eva, tiny_swin, tiny_swin_v2, tiny_vit

import e2vpt
from e2vpt.backbones.fingerprint import fingerprint

each_kind = pytest.mark.parametrize(
    "make", [tiny_vit, tiny_swin, tiny_beit, tiny_swin_v2, tiny_eva, lambda dtype: tiny_eva(dtype, **GROUPED)]
)


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty hub cache and no requests."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@each_kind
def test_fingerprint_stays_with_prompts_copies_heads_and_precision(make: Any) -> None:
    model = make(torch.float32)
    before = fingerprint(model)
    assert len(before) == 64 and set(before) <= set("0123456789abcdef")
    assert fingerprint(copy.deepcopy(model)) == fingerprint(copy.deepcopy(model).double()) == before
    other_head = copy.deepcopy(model)
    other_head.reset_classifier(31)
    assert fingerprint(other_head) == before
    prompted = e2vpt.prompt(copy.deepcopy(model), e2vpt.PromptConfig(num_visual=4, num_kv=2))
    assert fingerprint(prompted) == fingerprint(copy.deepcopy(prompted)) == before
    shallow = e2vpt.prompt(copy.deepcopy(model), e2vpt.PromptConfig(num_visual=4, visual_depth="shallow"))
    assert fingerprint(shallow) == before


@each_kind
def test_fingerprint_sees_every_other_weight(make: Any) -> None:
    model = make(torch.float32)
    before, skipped = fingerprint(model), []
    for name, parameter in model.named_parameters():
        kept = parameter.detach().clone()
        with torch.no_grad():
            parameter.view(-1)[-1] += 1e-3
        if fingerprint(model) == before:
            skipped.append(name)
        with torch.no_grad():
            parameter.copy_(kept)
    assert fingerprint(model) == before
    sized = {name for name in skipped if name.split(".")[-1] in ("pos_embed", "relative_position_bias_table")}
    assert set(skipped) - sized == {
        name for name in dict(model.named_parameters()) if name.startswith("head.")
    }
    assert len(sized) == {tiny_swin: 4, tiny_beit: 4, tiny_swin_v2: 0}.get(make, 1)
