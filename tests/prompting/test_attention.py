"""Attention with extra keys: against the formula, with and without masks, fused or by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.backbones_for_tests import (
    assert_same,
    gradients,
    images_for,
    prompted,
    relative,
    tiny_swin,
    tiny_vit,
    tuned,
)
from support.oracles.attention import PlainAttention
from support.oracles.gated import GatedAttention, gated_oracle
from support.prompting_for_tests import each_model, made, overhear
from torch import Tensor

import e2vpt
from e2vpt.benchmarks.cost import flops
from e2vpt.errors import ConfigError
from e2vpt.prompting.attention import AttentionWithPrompts

pytestmark = pytest.mark.usefixtures("one_thread")

B, H, Q, N, T, D = 2, 3, 4, 5, 6, 8


def qkv() -> tuple[Tensor, Tensor, Tensor]:
    return tuple(torch.randn(B, H, rows, D, dtype=torch.float64) for rows in (Q, N, N))


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


GATED: dict[str, dict[str, Any]] = {
    "mixed": {"num_visual": 4, "num_kv": 3},
    "separate-kv": {"num_visual": 4, "num_kv": 3, "share_kv": False},
    "visual-only": {"num_visual": 4, "num_kv": 0},
    "kv-only": {"num_visual": 0, "num_kv": 3},
    "first-kv": {"num_visual": 2, "num_kv": 3, "kv_depth": "shallow"},
    "dropout": {"num_visual": 4, "num_kv": 2, "dropout": 0.4},
}
BACKBONES = {
    "vit": tiny_vit,
    "vit-avg": lambda: tiny_vit(qk_norm=True, global_pool="avg"),
    "swin": tiny_swin,
}


@pytest.mark.parametrize("prompts", GATED)
@pytest.mark.parametrize("kind", BACKBONES)
def test_gated_attention_is_the_sum_of_two_softmaxes(
    kind: str, prompts: str, drawn: dict[int, Tensor]
) -> None:
    backbone = BACKBONES[kind]()
    model = prompted(backbone, attention="gated", **GATED[prompts]).train()
    images = images_for(model, batch=3)
    found = model(images)
    rows = [drawn.get(id(layer)) for layer in e2vpt.prompt_layers(model)]
    assert_same(model, found, gated_oracle(backbone, model, images, rows))
    assert {"gate"} <= {name.split(".")[-1] for name in tuned(model)}
    expected = gated_oracle(backbone, model.eval(), images)
    model.set_grad_checkpointing()
    assert_same(model, model(images), expected)
    with torch.no_grad():
        assert relative(model(images), expected) < 1e-12
        with torch.autocast("cpu", torch.bfloat16):
            assert relative(model.float()(images.float()), expected) < 0.1


@pytest.mark.parametrize("kind", BACKBONES)
def test_gates_start_where_the_backbone_is(kind: str) -> None:
    """And only the gates have a gradient there, beside the head."""
    model = prompted(BACKBONES[kind](), attention="gated", num_visual=4, num_kv=3)
    gates = [layer.gate for layer in e2vpt.prompt_layers(model)]
    with torch.no_grad():
        for gate in gates:
            gate.zero_()
    images = images_for(model)
    found = model(images)
    with e2vpt.disabled(model):
        assert relative(found, model(images)) < 1e-14
    moved = {name.split(".")[-1] for name, g in gradients(model, found.square().sum()).items() if g.any()}
    assert moved == {"gate", "weight", "bias"}
    fresh = e2vpt.prompt(BACKBONES[kind](), e2vpt.PromptConfig(attention="gated"))
    assert not any(layer.gate.any() for layer in e2vpt.prompt_layers(fresh))


def test_a_gated_mask_is_over_image_tokens() -> None:
    backbone = tiny_vit()
    attention = prompted(backbone, attention="gated", num_visual=4, num_kv=3).blocks[1].attn
    x, mask = torch.randn(2, 17, 48, dtype=torch.float64), torch.rand(17, 17) > 0.5
    mask[:, 0] = True
    layer, norm = attention.prompts, backbone.blocks[1].norm1
    oracle = GatedAttention(backbone.blocks[1].attn, norm, layer, layer.masked_visual(2))
    assert relative(attention(x, attn_mask=mask), oracle(x, attn_mask=mask)) < 1e-12
    assert relative(attention(x, is_causal=True), oracle(x, is_causal=True)) < 1e-12


@each_model
def test_attention_dropout_reaches_every_weight(kind: str) -> None:
    """With all weights dropped nothing is found: at image tokens, at prompts, in a softmax of their own."""
    model = made(kind)
    found: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, AttentionWithPrompts):
            module.attn_drop.p = 1 - 1e-12
            overhear(module.proj, lambda rows: found.append(rows.detach()))
    model.train()(images_for(model))
    assert found and not any(rows.any() for rows in found)
    found.clear()
    model.eval()(images_for(model))
    assert found and all(rows.any() for rows in found)


@each_model
def test_copies_for_data_parallel_are_refused(kind: str) -> None:
    """nn.DataParallel makes such copies of every module in each step, where there are several GPUs."""
    found = [module for module in made(kind).modules() if isinstance(module, AttentionWithPrompts)]
    for attention in found:
        with pytest.raises(ConfigError, match=r"torchrun or `accelerate launch`.*CUDA_VISIBLE_DEVICES=0"):
            attention._replicate_for_data_parallel()
