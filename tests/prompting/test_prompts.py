"""One block's tensors: shapes, sharing, the keep mask, initial values, dropout."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from e2vpt.errors import ConfigError
from e2vpt.prompting.initial import (
    init_key_value,
    init_key_value_from_tokens,
    init_visual,
    init_visual_from_tokens,
)
from e2vpt.prompting.prompts import BlockPrompts

pytestmark = pytest.mark.usefixtures("one_thread")


def block_prompts(**options: Any) -> BlockPrompts:
    return BlockPrompts(
        **({"num_visual": 40, "num_kv": 30, "width": 64, "num_heads": 4, "head_dim": 16} | options)
    )


def test_shapes_and_sharing() -> None:
    shared, apart, none = (
        block_prompts(),
        block_prompts(share_kv=False),
        block_prompts(num_visual=0, num_kv=0),
    )
    assert shared.visual.shape == shared.keep.shape == (40, 64)
    assert shared.key.shape == (4, 30, 16) and shared.value is shared.key
    assert apart.value.shape == apart.key.shape and apart.value is not apart.key
    assert (shared.num_visual, shared.num_kv) == (40, 30)
    assert none.visual is none.key is none.value is none.keep is None
    assert (none.num_visual, none.num_kv, none.drops) == (0, 0, False)
    assert "num_visual=40, num_kv=30 (shared), travels=False" in repr(shared)
    assert "(separate)" in repr(apart)
    assert set(shared.state_dict()) == {"visual", "key", "value", "keep"}


@pytest.mark.parametrize("how", ["uniform", "patch"])
def test_uniform_visual_prompts_have_the_official_bound(how: Any) -> None:
    prompts = block_prompts()
    init_visual(prompts, how, 16 * 16)
    bound = math.sqrt(6 / (3 * 16 * 16 + 64))
    assert 0.98 * bound < float(prompts.visual.detach().abs().max()) <= bound
    assert float(prompts.visual.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert abs(float(prompts.visual.detach().mean())) < 0.05 * bound


@pytest.mark.parametrize("how", ["kaiming", "patch"])
@pytest.mark.parametrize("share", [True, False])
def test_kaiming_key_value_prompts_have_fan_in_m_d(how: Any, share: bool) -> None:
    prompts = block_prompts(share_kv=share)
    init_key_value(prompts, how)
    bound = math.sqrt(6 / (30 * 16))
    for tensor in (prompts.key, prompts.value):
        assert 0.98 * bound < float(tensor.detach().abs().max()) <= bound
        assert float(tensor.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert torch.equal(prompts.key, prompts.value) is share


def test_the_papers_standard_deviation() -> None:
    """performance.md section 1: m = 5, d = 64 gives 0.079."""
    prompts = block_prompts(num_kv=5, num_heads=12, head_dim=64, width=768)
    init_key_value(prompts, "kaiming")
    assert float(prompts.key.detach().std()) == pytest.approx(0.079, abs=0.002)


def test_normal_and_zeros() -> None:
    prompts = block_prompts(share_kv=False)
    init_visual(prompts, "normal", 16)
    init_key_value(prompts, "normal")
    for tensor in (prompts.visual, prompts.key, prompts.value):
        assert float(tensor.detach().std()) == pytest.approx(0.02, rel=0.06)
    init_visual(prompts, "zeros", 16)
    init_key_value(prompts, "zeros")
    assert not any(bool(tensor.any()) for tensor in (prompts.visual, prompts.key, prompts.value))


def test_initialising_nothing_draws_nothing() -> None:
    prompts, state = block_prompts(num_visual=0, num_kv=0), torch.get_rng_state()
    init_visual(prompts, "uniform", 16)
    init_key_value(prompts, "kaiming")
    init_visual_from_tokens(prompts, torch.zeros(0, 64))
    init_key_value_from_tokens(prompts, torch.zeros(4, 0, 16), torch.zeros(4, 0, 16))
    assert torch.equal(torch.get_rng_state(), state)


def test_rows_from_tokens_are_different_tokens() -> None:
    prompts, tokens = block_prompts(travels=True), torch.arange(50.0)[:, None].expand(50, 64)
    init_visual_from_tokens(prompts, tokens)
    first = prompts.visual[:, 0].tolist()
    assert len(set(first)) == 40 and set(first) <= set(range(50))
    with pytest.raises(ConfigError, match="at least 40 patch tokens and saw 39; give it more images"):
        init_visual_from_tokens(prompts, tokens[:39])


def test_deep_rows_from_tokens_have_one_size_which_the_norm_undoes() -> None:
    prompts, tokens = block_prompts().double(), torch.randn(40, 64, dtype=torch.float64) * 30
    tokens[0] = 0
    init_visual_from_tokens(prompts, tokens)
    sizes = prompts.visual.detach().square().mean(-1).sqrt()
    empty = sizes == 0
    assert int(empty.sum()) == 1 and torch.allclose(sizes[~empty], torch.tensor(0.2, dtype=torch.float64))
    rows, all_normed = (
        torch.nn.functional.layer_norm(t, (64,), eps=0.0) for t in (prompts.visual.detach(), tokens)
    )
    nearest = torch.cdist(rows[~empty], all_normed[1:]).min(1)
    assert float(nearest.values.max()) < 1e-6 and len(nearest.indices.unique()) == 39


@pytest.mark.parametrize("share", [True, False])
def test_key_value_from_tokens_keep_a_tokens_key_and_value_together(share: bool) -> None:
    prompts = block_prompts(share_kv=share)
    keys = torch.arange(50.0)[None, :, None].expand(4, 50, 16)
    init_key_value_from_tokens(prompts, keys, keys + 100)
    if share:
        assert prompts.key is prompts.value and bool((prompts.key >= 50).all())
    else:
        assert torch.equal(prompts.value, prompts.key + 100)
    assert len(prompts.key[0, :, 0].unique()) == 30
    assert torch.equal(prompts.key[0], prompts.key[3])


def test_the_keep_mask_multiplies() -> None:
    prompts = block_prompts()
    prompts.visual.data.fill_(2)
    prompts.keep[3], prompts.keep[5, ::2] = 0, 0
    masked = prompts.masked_visual(7)
    assert torch.equal(masked, 2 * prompts.keep)
    masked.sum().backward()
    assert torch.equal(prompts.visual.grad, prompts.keep)


def test_dropout_is_per_image_before_the_mask_and_in_training_only() -> None:
    prompts = block_prompts(dropout=0.25)
    prompts.visual.data.fill_(3)
    prompts.keep[0] = 0
    drawn = prompts.train().masked_visual(5)
    assert prompts.drops and drawn.shape == (5, 40, 64)
    assert set(drawn.unique().tolist()) == {0.0, 4.0}
    assert not bool(drawn[:, 0].any()) and not torch.equal(drawn[0], drawn[1])
    assert float((drawn[:, 1:] == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert not prompts.eval().drops and prompts.masked_visual(5).shape == (40, 64)


@pytest.mark.parametrize("share", [True, False])
def test_sharing_survives_loading_and_conversion(share: bool) -> None:
    def shares(prompts: BlockPrompts) -> bool:
        return prompts.key is prompts.value

    prompts = block_prompts(share_kv=share)
    state: dict[str, Tensor] = {name: t.clone() for name, t in prompts.state_dict().items()}
    prompts.load_state_dict(state, assign=True)
    assert shares(prompts) is share
    assert shares(prompts.double().half()) is share
    assert shares(prompts.to("meta").to_empty(device="cpu")) is share
    assert isinstance(prompts.value, nn.Parameter)
