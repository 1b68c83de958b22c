"""Attention with extra keys: against the formula, with and without masks, fused or by hand."""

from __future__ import annotations

import math

import pytest
import torch
from support.backbones_for_tests import prompted, relative, tiny_swin, tiny_vit
from support.oracles import PlainAttention
from torch import Tensor, nn

from e2vpt.benchmarks.cost import flops
from e2vpt.prompting.attend import _attend_manually, _fused_backward_is_slow, attend, written_out
from e2vpt.prompting.attention import take_over
from e2vpt.prompting.tables import Table

pytestmark = pytest.mark.usefixtures("one_thread")

B, H, Q, N, T, D = 2, 3, 4, 5, 6, 8


def qkv() -> tuple[Tensor, Tensor, Tensor]:
    return tuple(torch.randn(B, H, rows, D, dtype=torch.float64) for rows in (Q, N, N))


def tables() -> dict[str, Table | None]:
    per_image = Table(*(torch.randn(B, H, T, D, dtype=torch.float64) for _ in "kv"))
    return {"none": None, "shared": Table(per_image.k[0], per_image.v[0]), "per-image": per_image}


def biases() -> dict[str, Tensor | None]:
    allowed = torch.rand(Q, N) > 0.4
    allowed[:, 0] = True
    additive = torch.randn(1, H, Q, N, dtype=torch.float64)
    return {"none": None, "bool": allowed, "additive": additive, "fp32": additive.float()}


def formula(q: Tensor, k: Tensor, v: Tensor, table: Table | None, bias: Tensor | None) -> Tensor:
    out = torch.empty_like(q)
    for b in range(B):
        for h in range(H):
            scores = q[b, h] @ k[b, h].T / math.sqrt(D)
            if bias is not None:
                full = bias.expand(B, H, Q, N)[b, h]
                scores = scores.masked_fill(~full, -math.inf) if full.dtype == torch.bool else scores + full
            values = v[b, h]
            if table is not None:
                extra_k, extra_v = (t.expand(B, H, T, D)[b, h] for t in table)
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
    assert relative(attend(q, k, v, tables_, biases_), expected) < 1e-14
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
    expected = attend(q, k, v, table, mask)
    half = [t.bfloat16().requires_grad_() for t in (q, k, v)]
    found = attend(*half, table, mask)
    assert found.dtype == torch.bfloat16 and relative(found, expected) < 0.03
    found.float().sum().backward()
    assert all(bool(t.grad.isfinite().all()) for t in half)


def test_attention_dropout_by_hand_drops_weights() -> None:
    q, k, v = qkv()
    v = torch.ones_like(v)
    kept = _attend_manually(q, k, v, None, 0.5)
    assert float(kept.mean()) == pytest.approx(1, abs=0.3) and float(kept.std()) > 0.1


def test_taking_over_shares_parts_and_not_the_containers() -> None:
    old = tiny_vit().blocks[0].attn
    old.register_forward_hook(lambda *_: None)
    new = nn.Module.__new__(type(old))
    take_over(new, old)
    assert dict(new.named_parameters()).keys() == dict(old.named_parameters()).keys()
    assert new.qkv is old.qkv and len(new._forward_hooks) == 1
    new.extra = nn.Identity()
    assert not hasattr(old, "extra")


@pytest.mark.parametrize("num_queries", [1, 3, 17])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_the_first_queries_are_the_first_rows(num_queries: int, qk_norm: bool) -> None:
    attention = prompted(tiny_vit(qk_norm=qk_norm), num_visual=4, num_kv=2).blocks[1].attn
    x = torch.randn(2, 17, 48, dtype=torch.float64)
    assert relative(attention.attend(x, num_queries), attention(x)[:, :num_queries]) < 1e-13


def test_key_value_prompts_of_one_module() -> None:
    backbone = tiny_vit()
    attention = prompted(backbone, num_visual=0, num_kv=3, share_kv=False).blocks[1].attn
    plain = PlainAttention(backbone.blocks[1].attn, attention.prompts.key, attention.prompts.value)
    x = torch.randn(2, 17, 48, dtype=torch.float64)
    mask = torch.rand(17, 17) > 0.5
    assert relative(attention(x), plain(x)) < 1e-13
    assert relative(attention(x, attn_mask=mask), plain(x, attn_mask=mask)) < 1e-13
    assert relative(attention(x, is_causal=True), plain(x, is_causal=True)) < 1e-13


def test_windows_see_their_own_shift_mask() -> None:
    """Swin: the mask of window w is for window w of every image, and never for a prompt."""
    backbone = tiny_swin()
    model = prompted(backbone, num_visual=0, num_kv=2)
    block, timms = model.layers[0].blocks[1], backbone.layers[0].blocks[1]
    windows = torch.randn(2 * 16, 4, 16, dtype=torch.float64)
    bias = timms.attn._get_rel_pos_bias() + timms.attn_mask.unsqueeze(1).repeat(2, 1, 1, 1)
    plain = PlainAttention(timms.attn, block.attn.prompts.key, block.attn.prompts.value)
    assert relative(block.attn(windows, mask=block.attn_mask), plain(windows, bias)) < 1e-13


@pytest.mark.parametrize("prompts", [(4, 3), (0, 3), (4, 0), (0, 0)])
@pytest.mark.parametrize("options", [{}, {"qkv_bias": False}, {"qk_norm": True}, {"scale_attn_norm": True}])
def test_the_first_token_alone_needs_no_projected_keys(
    options: dict[str, bool], prompts: tuple[int, int]
) -> None:
    """(W_k x + b_k)·q = x·(W_k'q) + b_k·q: the same output and gradients without keys and values."""
    model = prompted(tiny_vit(**options), num_visual=prompts[0], num_kv=prompts[1])
    attention = model.blocks[-1].attn
    x = torch.randn(2, 17, 48, dtype=torch.float64, requires_grad=True)
    leaves = [x, *attention.prompts.parameters()]
    found, expected = attention.attend_first(x), attention.attend(x, 1)
    assert relative(found, expected) < 1e-12
    weights = torch.randn_like(expected)
    ours, theirs = (torch.autograd.grad((y * weights).sum(), leaves) for y in (found, expected))
    assert all(relative(a, b) < 1e-12 for a, b in zip(ours, theirs, strict=True))
    fewer = flops(lambda: attention.attend(x, 1)) - flops(lambda: attention.attend_first(x))
    projected = 2 * (2 * 2 * 17 * 48 * 48)
    on_inputs = 2 * (2 * 2 * 3 * 17 * (48 - 16)) + 2 * (2 * 2 * 48 * 48)
    assert fewer == (0 if "qk_norm" in options else projected - on_inputs)


def test_dropped_weights_take_the_general_path() -> None:
    model = prompted(tiny_vit(attn_drop_rate=0.5), num_visual=4, num_kv=3).train()
    attention, x = model.blocks[-1].attn, torch.randn(2, 17, 48, dtype=torch.float64)
    found = []
    for compute in (attention.attend_first, lambda x: attention.attend(x, 1)):
        torch.manual_seed(0)
        found.append(compute(x))
    assert torch.equal(*found)
    assert not torch.equal(attention.attend_first(x), attention.attend_first(x))


@pytest.mark.parametrize("make", [tiny_vit, tiny_swin])
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
