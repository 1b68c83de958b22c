"""One block's prompts: shapes, sharing, mask, dropout."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

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
    assert set(shared.state_dict()) == {"visual", "key", "keep"}
    assert set(apart.state_dict()) == {"visual", "key", "value", "keep"}


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
    prompts.load_state_dict({"value": state["key"]} | state)  # Both names, as files had them once.
    assert shares(prompts) is share
    assert shares(prompts.double().half()) is share
    assert shares(prompts.to("meta").to_empty(device="cpu")) is share
    assert isinstance(prompts.value, nn.Parameter)


@pytest.mark.parametrize("strict", [True, False])
def test_other_keys_than_values_do_not_go_into_one_tensor(strict: bool) -> None:
    shared, apart = block_prompts(), block_prompts(share_kv=False)
    for seed, parameter in enumerate((shared.key, apart.key, apart.value)):
        parameter.data.normal_(generator=torch.Generator().manual_seed(seed))
    before = shared.key.detach().clone()
    with pytest.raises(RuntimeError, match=r"key and value differ; .*Make it with .*share_kv=False"):
        shared.load_state_dict(apart.state_dict(), strict=strict)
    assert torch.equal(shared.key, before)
    apart.value.data.copy_(apart.key)
    shared.load_state_dict(apart.state_dict(), strict=strict)
    assert torch.equal(shared.key, apart.key)


@pytest.mark.parametrize("share", [True, False])
def test_a_parameter_whose_shape_stays_is_still_the_same(share: bool) -> None:
    prompts = block_prompts(share_kv=share, gated=True)
    before = dict(prompts.named_parameters())
    drawn = {name: torch.randn_like(parameter) for name, parameter in before.items()}
    drawn.setdefault("value", drawn["key"])
    prompts.resize(keep=torch.ones(40, 64), **drawn)
    for name, parameter in prompts.named_parameters():
        assert parameter is before[name] and torch.equal(parameter, drawn[name]), name
    prompts.resize(visual=drawn["visual"][:3], keep=torch.ones(3, 64))
    assert prompts.visual is not before["visual"] and before["visual"].shape == (40, 64)
    assert prompts.key is before["key"] and prompts.gate is before["gate"]
