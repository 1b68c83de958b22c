"""Integrated gradients add up; Grad-CAM is complete before a linear head, and equals its definition."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.backbones_for_tests import prompted, tiny_eva, tiny_swin, tiny_vit
from torch import Tensor, nn

from e2vpt.insight.explanations.gradients import grad_cam, integrated_gradients

BOTH = {"num_visual": 3, "num_kv": 2}


def picture() -> Tensor:
    return torch.randn(3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def make(kind: str) -> nn.Module:
    if kind == "eva":
        return prompted(tiny_eva(), **BOTH).eval()
    if kind.startswith("swin"):
        more = {"swin-pooled": {"pool_prompts": True}, "swin-shallow": {"visual_depth": "shallow"}}
        return prompted(tiny_swin(), **BOTH, **more.get(kind, {})).eval()
    return prompted(tiny_vit(global_pool=kind), **BOTH).eval()


@pytest.mark.parametrize("kind", ["token", "avg", "eva", "swin", "swin-pooled", "swin-shallow"])
def test_integrated_gradients_are_complete(kind: str) -> None:
    model, x = make(kind), picture()
    found = integrated_gradients(model, x, 2, steps=64)
    with torch.no_grad():
        score, baseline = model(torch.stack([x, torch.zeros_like(x)]))[:, 2].tolist()
    assert (found.score, found.baseline) == (pytest.approx(score), pytest.approx(baseline))
    assert float(found.pixels.sum()) == pytest.approx(score - baseline, rel=1e-4)
    assert found.gap < 1e-4


def test_too_few_steps_are_said() -> None:
    assert integrated_gradients(make("token"), picture(), 2, steps=2).gap > 1e-4


def test_grad_cam_is_complete_before_a_linear_head() -> None:
    """The mean of the patches under a linear head: values add up to the logit less its bias."""
    model = make("avg")
    timms: Any = model
    timms.norm, timms.fc_norm, timms.pool_include_prefix = nn.Identity(), nn.Identity(), False
    with torch.no_grad():
        logit = float(model(picture()[None])[0, 2] - timms.head.bias[2])
    cam = grad_cam(model, picture(), 2)
    assert cam.shape == (4, 4)
    assert float(cam.sum()) == pytest.approx(logit, rel=1e-9)


def test_grad_cam_equals_its_definition() -> None:
    model, kept = make("token"), []
    timms: Any = model
    hook = timms.blocks[-1].attn.register_forward_pre_hook(lambda _, args: kept.append(args[0]))
    logit = model(picture()[None].requires_grad_())[0, 2]
    hook.remove()
    (gradient,) = torch.autograd.grad(logit, kept[0])
    patches, weights = kept[0][0, 1:], gradient[0, 1:].mean(0)
    expected = (patches @ weights).view(4, 4)
    assert torch.allclose(grad_cam(model, picture(), 2), expected, atol=1e-12)


@pytest.mark.parametrize("kind", ["token", "swin-pooled"])
def test_nothing_is_left_behind(kind: str) -> None:
    model = make(kind).train()
    grad_cam(model, picture(), 1)
    integrated_gradients(model, picture(), 1, steps=2)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    hooks = [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks or m._backward_hooks]
    assert not hooks
