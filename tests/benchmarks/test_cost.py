"""FLOPs, memory and kept bytes against what is known by hand."""

from __future__ import annotations

import gc
import os
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from e2vpt.benchmarks.cost import flops, peak_memory, saved_bytes

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_product_is_two_operations_for_each_multiply_add() -> None:
    a, b = torch.randn(3, 5), torch.randn(5, 7)
    assert flops(lambda: a @ b) == 2 * 3 * 5 * 7


def test_fused_attention_counts_as_much_as_written_out() -> None:
    """Forward two products; the fused backward pass recomputes the scores, so it has five instead of four."""
    q, k, v = (torch.randn(2, 3, n, 4, requires_grad=True) for n in (6, 9, 9))
    product = 2 * 2 * 3 * 6 * 9 * 4
    fused = lambda: F.scaled_dot_product_attention(q, k, v)  # noqa: E731
    written = lambda: (q @ k.transpose(-2, -1)).softmax(-1) @ v  # noqa: E731
    assert flops(fused) == flops(written) == 2 * product
    assert flops(lambda: written().sum().backward()) == 6 * product
    assert flops(lambda: fused().sum().backward()) == 7 * product


def test_peak_memory_is_what_lives_at_one_time() -> None:
    x, mib = torch.randn(256, 1024), 2**20

    def one_after_the_other() -> None:
        for _ in range(4):
            y = x + 1
            del y

    def together() -> list[torch.Tensor]:
        return [x + 1 for _ in range(4)]

    assert peak_memory(one_after_the_other) == pytest.approx(mib, rel=0.01)
    assert peak_memory(together) == pytest.approx(4 * mib, rel=0.01)


def test_kept_bytes_count_memory_once_and_weights_never() -> None:
    model = nn.Sequential(nn.Linear(8, 16, bias=False), nn.GELU(), nn.Linear(16, 4, bias=False))
    x = torch.randn(32, 8)
    # The input of each layer that trains, and what GELU came from.
    assert saved_bytes(lambda: model(x), model.parameters()) == 4 * (32 * 8 + 32 * 16 + 32 * 16)
    model[0].requires_grad_(False)
    assert saved_bytes(lambda: model(x), model.parameters()) == 4 * 32 * 16
    model.requires_grad_(False)
    assert saved_bytes(lambda: model(x), model.parameters()) == 0


def test_a_view_keeps_the_whole_of_its_memory() -> None:
    weight = torch.randn(4, requires_grad=True)
    big = torch.randn(1000, 4)
    assert saved_bytes(lambda: big[:2] * weight, [weight]) == 4 * 1000 * 4
    assert saved_bytes(lambda: big[:2] * weight, [weight, big]) == 0


def test_the_profiler_s_own_lines_are_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    peak_memory(lambda: torch.ones(3))
    os.write(2, b"still there")
    assert capfd.readouterr().err == "still there"


def test_nothing_is_held_afterwards() -> None:
    """Softmax saves its own output: kept as it is, the graph would never be freed."""
    x, outputs = torch.randn(8, 8, requires_grad=True), []

    def forward() -> torch.Tensor:
        y = x.softmax(-1)
        outputs.append(weakref.ref(y))
        return y.sum()

    gc.disable()
    try:
        assert saved_bytes(forward, [x]) == 4 * 64
        assert outputs[0]() is None
    finally:
        gc.enable()
