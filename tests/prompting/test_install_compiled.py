"""Prompted models compiled, exported, checkpointed, in inference mode and in half precision give the same."""

from __future__ import annotations

import pytest
import torch
from support.backbones_for_tests import MODELS, gradients, images_for, prompted, relative, tiny_swin, tiny_vit
from support.prompting_for_tests import each_model, made
from torch import nn

import e2vpt

pytestmark = pytest.mark.usefixtures("one_thread")


def shrunk(kind: str, dtype: torch.dtype) -> nn.Module:
    """As few blocks as show every path: compilers take seconds a block."""
    make, options = (tiny_swin, {"depths": (1, 1)}) if "swin" in kind else (tiny_vit, {"depth": 2})
    return prompted(make(dtype, **options), num_visual=3, num_kv=2, **MODELS[kind][1])


@each_model
def test_gradient_checkpointing_changes_nothing(kind: str) -> None:
    model = made(kind, dropout=0.3).train()
    images, found = images_for(model), []
    for enabled in (False, True):
        model.set_grad_checkpointing(enabled)
        torch.manual_seed(5)
        logits = model(images)
        found.append({"logits": logits} | gradients(model, logits.square().sum()))
    assert all(torch.allclose(found[0][n], found[1][n], rtol=1e-10, atol=1e-12) for n in found[0])


@pytest.mark.parametrize(
    ("kind", "training", "backend"),
    [
        ("vit", True, "aot_eager"),
        ("vit", False, "aot_eager"),
        ("vit-shallow", False, "eager"),
        ("swin", True, "eager"),
        ("swin-shallow-pooled", False, "eager"),
    ],
)
def test_compiled_equals_eager(kind: str, training: bool, backend: str) -> None:
    torch._dynamo.reset()
    model = shrunk(kind, torch.float32).train(training)
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    images = images_for(model)
    expected, found = model(images), compiled(images)
    assert relative(found, expected) < 1e-5
    ours, theirs = gradients(model, found.square().sum()), gradients(model, expected.square().sum())
    scale = max(float(g.abs().max()) for g in theirs.values())
    assert max(float((ours[n] - theirs[n]).abs().max()) for n in theirs) < 1e-5 * scale
    with torch.no_grad():
        assert relative(compiled(images), expected) < 1e-5
        e2vpt.prompt_layers(model)[0].visual.data.mul_(2)
        assert relative(compiled(images), model(images)) < 1e-5
        with e2vpt.disabled(model):
            assert relative(compiled(images), model(images)) < 1e-5


@pytest.mark.parametrize("kind", ["vit", "vit-shallow", "swin", "swin-shallow-pooled"])
def test_exported_program_equals_eager(kind: str) -> None:
    model = shrunk(kind, torch.float32).eval()
    images = images_for(model)
    with torch.no_grad():
        expected = model(images)
        program = torch.export.export(model, (images,))
        assert relative(program.module()(images), expected) < 1e-5


@each_model
def test_inference_modes_agree(kind: str) -> None:
    model = made(kind)
    images = images_for(model)
    expected = model(images)
    for context in (torch.no_grad, torch.inference_mode, torch.no_grad):
        with context():
            for _ in range(2):
                assert relative(model(images), expected) < 1e-12


@each_model
@pytest.mark.parametrize("training", [True, False])
def test_bf16_autocast_is_close(kind: str, training: bool) -> None:
    model = made(kind, torch.float32).train(training)
    images = images_for(model)
    expected = model(images)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(images)
        with torch.no_grad():
            folded = [model(images) for _ in range(2)]
    assert relative(found, expected) < 0.1
    assert all(relative(f, expected) < 0.1 for f in folded)
    ours, theirs = gradients(model, found.float().square().sum()), gradients(model, expected.square().sum())
    ours_flat, theirs_flat = (torch.cat([g.flatten() for g in gs.values()]) for gs in (ours, theirs))
    assert torch.cosine_similarity(ours_flat, theirs_flat, dim=0) > 0.98


@each_model
def test_bf16_backbone_with_fp32_prompts(kind: str) -> None:
    model = made(kind, torch.float32)
    images = images_for(model)
    expected = model(images)
    model.bfloat16()
    for layer in e2vpt.prompt_layers(model):
        layer.float()
    found = model(images.bfloat16())
    assert found.dtype == torch.bfloat16 and relative(found, expected) < 0.1
    found.float().square().sum().backward()
    for layer in e2vpt.prompt_layers(model):
        assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in layer.parameters())
    with torch.no_grad():
        assert relative(model(images.bfloat16()), expected) < 0.1
