"""A bundle holds an adapter file's tensors and a backbone's, and gives back exactly those."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.backbones_for_tests import tiny_swin, tiny_vit
from torch import nn

from e2vpt.adapters.bundles import bundle, missing_numbers, unbundle
from e2vpt.backbones.weights import head_names, load_weights

HEADER: dict[str, Any] = {"format": 1, "backbone": ""}
TENSORS = {"head.weight": torch.ones(3, 4), "blocks.0.visual": torch.zeros(2, 8)}


def named(model: nn.Module, **cfg: str) -> nn.Module:
    model.pretrained_cfg = {"architecture": "vit_tiny_patch16_224", **cfg}  # type: ignore[assignment]
    return model


@pytest.mark.parametrize("make", [tiny_vit, tiny_swin])
def test_weights_come_back_as_they_were(make: Any) -> None:
    model, other = named(make(torch.float32)), make(torch.float32)
    header, tensors, bundled = unbundle(*bundle(HEADER, TENSORS, model))
    assert header == HEADER
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], value) for name, value in TENSORS.items())
    assert bundled is not None and bundled.name == "vit_tiny_patch16_224"
    head = head_names(other)
    own_head = {name: p.clone() for name, p in other.named_parameters() if name in head}
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(2)
    load_weights(other, bundled.weights, "the bundle")
    for name, value in other.state_dict().items():
        wanted = 2 * own_head[name] if name in head else model.state_dict()[name]
        assert torch.equal(value, wanted), name


def test_the_hubs_settings_are_not_needed() -> None:
    hub = named(tiny_vit(), source="hf-hub", hf_hub_id="timm/vit_tiny_patch16_224.augreg", tag="augreg")
    header, _ = bundle(HEADER, TENSORS, hub)
    assert header["bundle"] == {"backbone": "vit_tiny_patch16_224"}


def test_an_adapter_file_is_no_bundle() -> None:
    assert unbundle(dict(HEADER), TENSORS) == (HEADER, TENSORS, None)


@pytest.mark.parametrize(
    "found",
    [
        None,
        [],
        "demo",
        {},
        {"backbone": "demo", "options": {}},
        {"backbone": "hf-hub:a/b"},
        {"backbone": "../demo"},
        {"backbone": 3},
        {"backbone": ""},
    ],
)
def test_a_field_that_is_no_bundles_is_refused(found: Any) -> None:
    with pytest.raises(ValueError, match=r"expected the backbone's name|are expected|names no backbone"):
        unbundle({**HEADER, "bundle": found}, {})


def test_tensors_of_neither_part_are_refused() -> None:
    with pytest.raises(ValueError, match=r"more\.x belongs neither"):
        unbundle({**HEADER, "bundle": {"backbone": "demo"}}, {"more.x": torch.zeros(1)})


def test_numbers_that_are_missing_are_counted() -> None:
    model = named(tiny_vit(torch.float32))
    _, _, bundled = unbundle(*bundle(HEADER, TENSORS, model))
    assert bundled is not None
    assert missing_numbers(bundled, model) <= 0
    held = bundled.weights.pop("norm.weight").numel() + bundled.weights.pop("pos_embed").numel()
    head = sum(value.numel() for name, value in bundled.weights.items() if name.startswith("head."))
    assert missing_numbers(bundled, model) == held - head
