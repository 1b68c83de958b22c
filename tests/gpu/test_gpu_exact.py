"""What holds on the CPU to the last digit holds on a GPU: the official tensors, the backbone, our oracles."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.backbones_for_tests import gradients, images_for, named_backbone, prompted, relative
from support.conformance import NAMES, Case
from support.oracles.vit import vit_oracle
from torch import nn
from torch.nn import functional as F

import e2vpt
from e2vpt.prompting.parts import evaluating

pytestmark = pytest.mark.gpu
TOLERANCE = 1e-9
BACKBONES = ("supervised", "deit3-layer-scale", "dinov2-registers", "siglip-map", "gap", "qk-norm")


@pytest.fixture(autouse=True)
def _plain_fp32() -> Iterator[None]:
    """TF32 is off unless somebody asked for it; a test must not depend on what ran before it."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.shared
@pytest.mark.parametrize("mode", ["train", "eval", "checkpointing"])
@pytest.mark.parametrize("name", NAMES)
def test_official_logits_and_gradients(shared: Path, device: torch.device, name: str, mode: str) -> None:
    case = Case(shared / "conformance" / f"{name}.npz")
    case.model.to(device)
    case.expected = {key: value.to(device) for key, value in case.expected.items()}
    case.model.train(mode != "eval").set_grad_checkpointing(mode == "checkpointing")
    for layer in case.masked_layers():
        layer.keep.requires_grad_(True)
    logits = case.model(case.expected["images"])
    F.cross_entropy(logits, case.expected["labels"]).backward()
    assert relative(logits, case.expected["logits"]) < TOLERANCE
    found = case.gradients()
    given = {k.removeprefix("grad."): v for k, v in case.expected.items() if k.startswith("grad.")}
    assert given
    assert {n: d for n, g in given.items() if not (d := relative(found[n], g)) < TOLERANCE} == {}


@pytest.mark.parametrize("key", [*BACKBONES, "swin-shifted"])
def test_without_prompts_it_is_the_backbone(device: torch.device, key: str) -> None:
    backbone = named_backbone(key).to(device)
    images = images_for(backbone).to(device)
    model = prompted(backbone)
    with torch.no_grad(), e2vpt.disabled(model), evaluating(model):
        assert relative(model(images), backbone(images)) < 1e-12
        assert relative(model.forward_features(images), backbone.forward_features(images)) < 1e-12


@pytest.mark.parametrize("key", BACKBONES)
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_prompts_as_in_the_oracle(device: torch.device, key: str, precision: str) -> None:
    dtype = getattr(torch, precision)
    backbone = named_backbone(key, dtype).to(device)
    model = prompted(backbone).to(device)
    images = images_for(backbone).to(device)
    labels = torch.arange(len(images), device=device)
    logits, (_, expected) = model(images), vit_oracle(backbone, model, images)
    assert relative(logits, expected) < (1e-9 if dtype == torch.float64 else 1e-4)
    ours = gradients(model, F.cross_entropy(logits, labels))
    theirs = gradients(model, F.cross_entropy(expected, labels))
    limit = 1e-9 if dtype == torch.float64 else 1e-3
    scale = max(float(g.abs().max()) for g in theirs.values())
    worst = max(float((g - theirs[n]).abs().max()) for n, g in ours.items())
    assert worst < limit * scale


def test_fp32_is_not_tf32(device: torch.device) -> None:
    model = prompted(named_backbone("supervised", torch.float32)).to(device)
    exact = copy.deepcopy(model).double()
    images = images_for(model).to(device)
    with torch.no_grad():
        difference = relative(model(images), exact(images.double()))
    assert 0 < difference < 2e-5  # TF32 has ten bits: some 1e-3


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_compiled_model_gives_the_same(device: torch.device, mode: str) -> None:
    if device.type == "cpu":
        model: nn.Module = prompted(named_backbone("supervised", torch.float32, depth=1))
    else:
        model = prompted(named_backbone("deit3-layer-scale", torch.float32)).to(device)
    model.train(mode == "train")
    images = images_for(model).to(device)
    compiled = torch.compile(model, backend="aot_eager" if device.type == "cpu" else "inductor")
    expected, found = model(images), compiled(images)
    assert relative(found, expected) < 1e-4
    # A compiled backward pass may give its buffers away, so it runs once.
    ours = gradients(model, found.sum(), retain_graph=False)
    theirs = gradients(model, expected.sum())
    scale = max(float(g.abs().max()) for g in theirs.values())
    assert max(float((g - theirs[n]).abs().max()) for n, g in ours.items()) < 1e-3 * scale
