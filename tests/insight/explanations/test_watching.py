"""Attention written out equals what the module computes, and leaves nothing behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.backbones_for_tests import (
    GROUPED,
    prompted,
    tiny_beit,
    tiny_eva,
    tiny_swin,
    tiny_swin_v2,
    tiny_vit,
)
from torch import Tensor, nn

import e2vpt
from e2vpt.insight.explanations.shares import attention_shares
from e2vpt.insight.explanations.watching import watched_attention
from e2vpt.prompting.attention import AttentionWithPrompts, norm_of_keys
from e2vpt.prompting.tables import append_table

BOTH = {"num_visual": 3, "num_kv": 2}
MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "vit": (tiny_vit, BOTH),
    "average": (lambda: tiny_vit(global_pool="avg"), BOTH),
    "gated": (tiny_vit, BOTH | {"attention": "gated"}),
    "shallow": (tiny_vit, BOTH | {"visual_depth": "shallow"}),
    "nothing": (tiny_vit, {"num_visual": 0, "num_kv": 0}),
    "only-kv": (tiny_vit, {"num_visual": 0, "num_kv": 2, "share_kv": False}),
    "eva": (tiny_eva, BOTH),
    "eva-grouped": (lambda: tiny_eva(**GROUPED), BOTH),
    "beit": (tiny_beit, BOTH),
    "swin": (tiny_swin, BOTH),
    "swin-shallow": (tiny_swin, BOTH | {"visual_depth": "shallow"}),
    "swin-pooled": (tiny_swin, BOTH | {"pool_prompts": True}),
    "swin-v2": (tiny_swin_v2, BOTH),
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> nn.Module:
    make, config = MODELS[request.param]
    return prompted(make(), **config).eval()


def image(seed: int = 0) -> Tensor:
    return torch.randn(1, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_shares_add_up_to_one(model: nn.Module) -> None:
    with watched_attention(model) as blocks:
        model(image())
    assert len(blocks) == len(e2vpt.prompt_layers(model))
    shares = attention_shares(model, blocks)
    for each in (shares.found.nansum(-1)[~shares.found[..., 0].isnan()], shares.even.sum(-1)):
        assert torch.allclose(each, torch.ones_like(each), atol=1e-12, rtol=0)
    assert (shares.found.nan_to_num(0) >= 0).all()
    layer = e2vpt.prompt_layers(model)[0]
    assert (shares.even[0, 2] > 0, shares.even[0, 3] > 0) == (layer.num_visual > 0, layer.num_kv > 0)


@torch.no_grad()
def test_weights_times_values_are_the_modules_output(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, compared = AttentionWithPrompts.look, 0

    def look(self: AttentionWithPrompts, q: Tensor, kv: Tensor, table: Tensor | None, *more: Any) -> Tensor:
        nonlocal compared
        out, (tokens, rows) = own(self, q, kv, table, *more), self.weights(q, kv, table, *more)
        apart = table if self.prompts.gate is not None else None
        _, v = append_table(kv, table if apart is None else None, norm_of_keys(self))
        weights = tokens if apart is not None else torch.cat([tokens, rows], dim=-1)
        expected = weights @ v.repeat_interleave(weights.shape[1] // v.shape[1], dim=1)
        if apart is not None:
            expected = expected + rows @ append_table(apart[None], None)[1]
        assert torch.allclose(out, expected, atol=1e-9, rtol=0)
        compared += 1
        return out

    monkeypatch.setattr(AttentionWithPrompts, "look", look)
    with watched_attention(model) as blocks:
        model(image())
    assert compared == len(blocks) > 0


@torch.no_grad()
def test_watching_changes_nothing_and_leaves_nothing(model: nn.Module) -> None:
    x = image()
    before = model(x)
    kept = [(dict(vars(m)), len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    with watched_attention(model) as blocks:
        assert torch.allclose(model(x), before, atol=1e-9, rtol=0)
        model(image(1))
        again = [block.tokens.clone() for block in blocks]
        model(image(1))
    assert len(blocks) == len(again)
    assert all(torch.equal(block.tokens, same) for block, same in zip(blocks, again, strict=True))
    after = [(dict(vars(m)), len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()]
    assert [(d.keys(), *n) for d, *n in kept] == [(d.keys(), *n) for d, *n in after]
    assert torch.equal(model(x), before)


def test_nothing_is_left_after_an_error() -> None:
    model = prompted(tiny_vit(), **BOTH)
    with pytest.raises(ZeroDivisionError), watched_attention(model):
        raise ZeroDivisionError
    assert not any("look" in vars(module) or module._forward_hooks for module in model.modules())


@torch.no_grad()
def test_prompts_switched_off_get_nothing() -> None:
    model = prompted(tiny_vit(), **BOTH).eval()
    with e2vpt.disabled(model), watched_attention(model) as blocks:
        model(image())
    assert attention_shares(model, blocks).found[..., 2:].abs().max() == 0


@torch.no_grad()
def test_a_method_with_timms_own_attention_is_not_watched() -> None:
    model = e2vpt.adapt(tiny_vit(), "bias").eval()
    with watched_attention(model) as blocks:
        model(image())
    assert not blocks


@torch.no_grad()
def test_a_prompt_that_every_query_matches_gets_the_attention() -> None:
    model = prompted(tiny_vit(qkv_bias=True), num_visual=0, num_kv=1, share_kv=False).eval()
    attention: Any = model.blocks[1].attn  # type: ignore[index, union-attr]
    # Queries are their bias alone, and the key prompt points the same way.
    attention.qkv.weight[:48] = 0
    attention.prompts.key.copy_(50 * attention.qkv.bias[:48].view(3, 1, 16))
    with watched_attention(model) as blocks:
        model(image())
    assert (attention_shares(model, blocks).found[1, :, 3] > 0.99).all()
