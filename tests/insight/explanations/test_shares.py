"""Rollout equals a direct computation, token by token and block by block."""

from __future__ import annotations

import pytest
import torch
from support.backbones_for_tests import MODELS, images_for, prompted, tiny_swin, tiny_vit

from e2vpt.errors import UnsupportedBackbone
from e2vpt.insight.explanations.shares import (
    attention_rollout,
    attention_shares,
    patch_grid,
    reads_class_token,
)
from e2vpt.insight.explanations.watching import watched_attention


@pytest.mark.parametrize("depth", ["deep", "shallow"])
@pytest.mark.parametrize("pool", ["token", "avg"])
@torch.no_grad()
def test_rollout_equals_a_direct_computation(depth: str, pool: str) -> None:
    model = prompted(tiny_vit(global_pool=pool), num_visual=3, num_kv=2, visual_depth=depth).eval()
    with watched_attention(model) as blocks:
        model(torch.randn(1, 3, 32, 32, dtype=torch.float64))
    found = attention_rollout(model, blocks, patch_grid(model, (32, 32)))
    live = 3 if depth == "shallow" else 0
    # One matrix over everything there is: tokens, and for each block its own rows, which stay as they are.
    size, rows = 17 + live, blocks[0].rows.shape[-1]
    whole = torch.eye(size + 3 * rows, dtype=torch.float64)
    for index, block in enumerate(blocks):
        step = torch.eye(len(whole), dtype=torch.float64)
        step[:size] = 0
        at = size + index * rows
        step[:size, :size] = block.tokens[0].mean(0)
        step[:size, at : at + rows] = block.rows[0].mean(0)
        step[:size] += torch.eye(len(whole), dtype=torch.float64)[:size]
        whole = step / step.sum(1, keepdim=True) @ whole
    read = whole[0] if pool == "token" else whole[1:17].mean(0)
    assert torch.allclose(found.patches.flatten(), read[1:17], atol=1e-12, rtol=0)
    of_rows = read[size:].view(3, rows)
    visual = read[17:size].sum() + of_rows[:, : rows - 2].sum()
    expected = torch.stack([read[1:17].sum(), read[0], visual, of_rows[:, rows - 2 :].sum()])
    assert torch.allclose(found.shares, expected, atol=1e-12, rtol=0)
    assert float(found.shares.sum()) == pytest.approx(1, abs=1e-12)


@torch.no_grad()
def test_only_the_class_token_counts_in_the_last_block_that_reads_it() -> None:
    model = prompted(tiny_vit(), num_visual=2, num_kv=0).eval()
    with watched_attention(model) as blocks:
        model(torch.randn(1, 3, 32, 32, dtype=torch.float64))
    found = attention_shares(model, blocks).found
    assert torch.allclose(found[-1, :, 2], blocks[-1].rows[0, :, 0].sum(-1), atol=1e-12)
    assert torch.allclose(found[0, :, 2], blocks[0].rows[0].sum(-1).mean(-1), atol=1e-12)


@torch.no_grad()
def test_rollout_of_swin_is_refused_in_words() -> None:
    model = prompted(tiny_swin(), num_visual=2).eval()
    with watched_attention(model) as blocks:
        model(torch.randn(1, 3, 32, 32, dtype=torch.float64))
    with pytest.raises(UnsupportedBackbone, match="merged by a learned projection"):
        attention_rollout(model, blocks, (4, 4))
    assert patch_grid(model, (32, 32)) == (4, 4)


@pytest.mark.parametrize("kind", MODELS)
@torch.no_grad()
def test_every_prompt_has_its_own_share(kind: str) -> None:
    make, own = MODELS[kind]
    model = prompted(make(), **({"num_visual": 3, "num_kv": 2} | own)).eval()
    with watched_attention(model) as blocks:
        model(images_for(model)[:1])
    shares = attention_shares(model, blocks)
    assert len(shares.visual) == len(shares.key_value) == len(blocks)
    for block, found, visual, key_value in zip(
        blocks, shares.found, shares.visual, shares.key_value, strict=True
    ):
        heads = found[~found[:, 0].isnan()]
        assert visual.shape == (len(heads), 3) and key_value.shape == (len(heads), 2)
        assert (visual.sum(1) - heads[:, 2]).abs().max() < 1e-12
        assert (key_value.sum(1) - heads[:, 3]).abs().max() < 1e-12
        assert (heads.sum(1) - 1).abs().max() < 1e-9
        if not reads_class_token(model) and not block.num_travelling:
            assert (key_value - block.rows[..., -2:].mean((0, 2))).abs().max() < 1e-12
