"""Attention equals its formula, whichever kernel computes it."""

from __future__ import annotations

import math

import pytest
import torch
from support.backbones_for_tests import relative, tiny_beit, tiny_eva, tiny_swin, tiny_swin_v2, tiny_vit
from torch import Tensor

from e2vpt.prompting.attend import _attend_manually, _fused_backward_is_slow, attend, written_out
from e2vpt.prompting.tables import append_table

pytestmark = pytest.mark.usefixtures("one_thread")

B, H, Q, N, T, D = 2, 3, 4, 5, 6, 8


def qkv() -> tuple[Tensor, Tensor, Tensor]:
    return tuple(torch.randn(B, H, rows, D, dtype=torch.float64) for rows in (Q, N, N))


def tables() -> dict[str, Tensor | None]:
    per_image = torch.randn(B, T, 2, H, D, dtype=torch.float64)
    return {"none": None, "shared": per_image[0], "per-image": per_image}


def attend_with(q: Tensor, k: Tensor, v: Tensor, table: Tensor | None, bias: Tensor | None) -> Tensor:
    """Keys and values as a projection writes them, the table behind, and attention over both."""
    k, v = append_table(torch.stack([k, v], dim=1).movedim(3, 1), table)
    return attend(q, k, v, bias, num_extra=k.shape[2] - N)


def biases() -> dict[str, Tensor | None]:
    allowed = torch.rand(Q, N) > 0.4
    allowed[:, 0] = True
    additive = torch.randn(1, H, Q, N, dtype=torch.float64)
    return {"none": None, "bool": allowed, "additive": additive, "fp32": additive.float()}


def formula(q: Tensor, k: Tensor, v: Tensor, table: Tensor | None, bias: Tensor | None) -> Tensor:
    out = torch.empty_like(q)
    for b in range(B):
        for h in range(H):
            scores = q[b, h] @ k[b, h].T / math.sqrt(D)
            if bias is not None:
                full = bias.expand(B, H, Q, N)[b, h]
                scores = scores.masked_fill(~full, -math.inf) if full.dtype == torch.bool else scores + full
            values = v[b, h]
            if table is not None:
                extra_k, extra_v = table.expand(B, T, 2, H, D)[b, :, :, h].unbind(1)
                scores = torch.cat([extra_k_scores(q[b, h], extra_k), scores], dim=1)
                values = torch.cat([extra_v, values])
            out[b, h] = scores.softmax(1) @ values
    return out


def extra_k_scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.T / math.sqrt(D)


@pytest.mark.parametrize("bias", ["none", "bool", "additive", "fp32"])
@pytest.mark.parametrize("table", ["none", "shared", "per-image"])
def test_attention_is_the_formula(table: str, bias: str) -> None:
    q, k, v = qkv()
    expected = formula(q, k, v, tables_ := tables()[table], biases_ := biases()[bias])
    assert relative(attend_with(q, k, v, tables_, biases_), expected) < 1e-14
    if tables_ is None:
        assert relative(_attend_manually(q, k, v, biases_, 0.0), expected) < 1e-14


def test_by_hand_only_where_the_fused_backward_is_slow() -> None:
    """On a CPU with gradients: in bf16, or with a bias over few keys."""
    half = torch.zeros(1, 1, 1, 1, dtype=torch.bfloat16)
    wanted, bias = half.clone().requires_grad_(), torch.zeros(1, 1, 1, 1)
    assert _fused_backward_is_slow(wanted, half, None) and _fused_backward_is_slow(half, wanted, None)
    assert not _fused_backward_is_slow(half, half, bias)
    assert not _fused_backward_is_slow(wanted.float(), half.float(), None)
    for keys, is_slow in ((64, True), (128, True), (129, False)):
        k = torch.zeros(1, 1, keys, 1)
        assert _fused_backward_is_slow(wanted.float(), k, bias) == is_slow
    with torch.no_grad():
        assert not _fused_backward_is_slow(wanted, half, bias)


@pytest.mark.parametrize("bias", ["none", "bool", "additive"])
def test_bf16_with_gradients_is_close(bias: str) -> None:
    q, k, v = qkv()
    table, mask = tables()["shared"], biases()[bias]
    expected = attend_with(q, k, v, table, mask)
    half = [t.bfloat16().requires_grad_() for t in (q, k, v)]
    found = attend_with(*half, table if table is None else table.bfloat16(), mask)
    assert found.dtype == torch.bfloat16 and relative(found, expected) < 0.03
    found.float().sum().backward()
    assert all(bool(t.grad.isfinite().all()) for t in half)


def test_attention_dropout_by_hand_drops_weights() -> None:
    """A quarter of them; the others grow by as much."""
    torch.manual_seed(0)
    q, k, _ = qkv()
    each = torch.eye(N, dtype=torch.float64).expand(B, H, N, N)
    whole, kept = (_attend_manually(q, k, each, None, rate) for rate in (0.0, 0.25))
    assert torch.allclose(kept[kept != 0], whole[kept != 0] / 0.75, rtol=1e-12)
    assert float((kept == 0).double().mean()) == pytest.approx(0.25, abs=0.1)


@pytest.mark.parametrize("make", [tiny_vit, tiny_swin, tiny_eva, tiny_beit])
def test_timm_attention_is_written_out_in_bf16_training_and_fused_again_after_it(make: type) -> None:
    model = make(torch.float32)
    switches = [m for m in model.modules() if hasattr(m, "fused_attn")]
    for module in switches:
        module.fused_attn = True
    with written_out(model, None):
        assert all(m.fused_attn for m in switches)
    with written_out(model, torch.bfloat16):
        assert switches and not any(m.fused_attn for m in switches)
    assert all(m.fused_attn for m in switches)


def test_attention_that_has_no_fused_kernel_stays_as_it_is() -> None:
    model = tiny_swin_v2(torch.float32)
    before = [dict(vars(module)) for module in model.modules()]
    with written_out(model, torch.bfloat16):
        assert [dict(vars(module)) for module in model.modules()] == before
