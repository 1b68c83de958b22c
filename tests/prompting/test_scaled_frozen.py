"""The gradients of a scaled frozen layer are those of autograd, and nothing but its output is kept for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from e2vpt.prompting.scaled_frozen import scaled_frozen

pytestmark = pytest.mark.usefixtures("one_thread")


def parts(
    bias: bool = True, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    draw = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype)

    x, weight, scale = random(2, 5, 4), random(6, 4), 1 + 0.3 * random(6)
    return (
        x.requires_grad_(),
        weight,
        random(6).requires_grad_() if bias else None,
        scale.detach().requires_grad_(),
    )


def by_autograd(x: Tensor, weight: Tensor, bias: Tensor | None, scale: Tensor) -> Tensor:
    products = F.linear(x, weight) * scale
    return products if bias is None else products + bias


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scale", [None, [0.02, -0.5, -1e-3, 3.0, 1.0, -2.0]])
def test_gradients_are_autograds(bias: bool, scale: list[float] | None) -> None:
    x, weight, own_bias, own_scale = parts(bias)
    if scale is not None:
        own_scale = torch.tensor(scale, dtype=torch.float64, requires_grad=True)
    tuned = [t for t in (x, own_bias, own_scale) if t is not None]
    found, expected = (f(x, weight, own_bias, own_scale) for f in (scaled_frozen, by_autograd))
    direction = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.allclose(found, expected, rtol=0, atol=1e-13)
    ours, theirs = (torch.autograd.grad((y * direction).sum(), tuned) for y in (found, expected))
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("bias", [True, False])
def test_second_derivatives_are_autograds(bias: bool) -> None:
    x, weight, own_bias, own_scale = parts(bias)
    tuned = [t for t in (x, own_bias, own_scale) if t is not None]

    def of_a_penalty(f: Any) -> tuple[Tensor, ...]:
        loss = f(x, weight, own_bias, own_scale).pow(3).sum()
        slopes = torch.autograd.grad(loss, tuned, create_graph=True)
        return torch.autograd.grad(sum(slope.square().sum() for slope in slopes), tuned)

    for mine, other in zip(of_a_penalty(scaled_frozen), of_a_penalty(by_autograd), strict=True):
        assert torch.allclose(mine, other, rtol=1e-10, atol=0)


def test_a_scale_of_zero_has_a_gradient_that_is_finite() -> None:
    x, weight, bias, _ = parts()
    scale = torch.tensor([0.0, -0.0, 1e-9, -1e-9, 1.0, 1.0], dtype=torch.float64, requires_grad=True)
    scaled_frozen(x, weight, bias, scale).square().sum().backward()
    assert scale.grad is not None and bool(scale.grad.isfinite().all())
    expected = torch.autograd.grad(by_autograd(x, weight, bias, scale).square().sum(), scale)[0]
    assert torch.allclose(scale.grad[4:], expected[4:])
    assert bool((scale.grad[:4].abs() <= expected[:4].abs() + 1e-9).all()), "too small, never too large"


@pytest.mark.parametrize("needed", ["x", "bias", "scale"])
def test_only_what_is_wanted_gets_a_gradient(needed: str) -> None:
    x, weight, bias, scale = parts()
    assert bias is not None
    tensors = {"x": x, "bias": bias, "scale": scale}
    for name, tensor in tensors.items():
        tensor.requires_grad_(name == needed)
    scaled_frozen(x, weight, bias, scale).square().sum().backward()
    assert {name for name, tensor in tensors.items() if tensor.grad is not None} == {needed}


def test_nothing_as_large_as_the_batch_is_kept_but_the_output() -> None:
    x, weight, bias, scale = parts()
    kept: list[Any] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = scaled_frozen(x, weight, bias, scale)
    large = [t for t in kept if t.shape[:-1] == x.shape[:-1]]
    assert [t.data_ptr() for t in large] == [y.data_ptr()]


def test_autocast_rounds_once_and_tuned_values_keep_their_precision() -> None:
    x, weight, bias, scale = parts(dtype=torch.float32)
    assert bias is not None
    exact = by_autograd(x, weight, bias, scale)
    exact.square().sum().backward()
    wanted = [t.grad.clone() for t in (x, bias, scale) if t.grad is not None]
    for tensor in (x, bias, scale):
        tensor.grad = None
    with torch.autocast("cpu", torch.bfloat16):
        y = scaled_frozen(x, weight.bfloat16(), bias, scale)
    assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    for tensor, other in zip((x, bias, scale), wanted, strict=True):
        assert tensor.grad is not None and tensor.grad.dtype == torch.float32
        assert float((tensor.grad - other).norm() / other.norm()) < 0.03


def test_without_gradients_it_is_one_product() -> None:
    x, weight, bias, scale = parts()
    with torch.no_grad():
        found = scaled_frozen(x, weight, bias, scale)
    assert not found.requires_grad
    assert torch.allclose(found, by_autograd(x, weight, bias, scale), rtol=0, atol=1e-13)
