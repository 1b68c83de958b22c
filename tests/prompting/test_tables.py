"""Tables: what they hold, in which order, and how they join the image tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.backbones_for_tests import gradients, images_for, prompted, randomise, relative, tiny_vit
from torch import Tensor, nn
from torch.nn import functional as F

from e2vpt.prompting.tables import (
    append_table,
    as_keys_values,
    build_table,
    for_windows,
    is_plain,
    project_tokens,
    split_qkv,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def prompts(model: nn.Module) -> Any:
    return model.blocks[1].attn.prompts


def test_windows_repeat_each_images_table() -> None:
    table = torch.tensor([[0.0, 10], [1, 11]]).view(2, 1, 2, 1, 1)
    assert for_windows(table, 1) is table
    assert for_windows(table, 3).unbind(2)[0].flatten().tolist() == [0, 0, 0, 1, 1, 1]
    assert for_windows(table, 3).unbind(2)[1].flatten().tolist() == [10, 10, 10, 11, 11, 11]


@pytest.mark.parametrize("bias", [True, False])
def test_parts_of_a_projection_are_the_projection(bias: bool) -> None:
    linear, x = nn.Linear(6, 12, bias=bias).double(), torch.randn(2, 5, 6).double()
    whole = linear(x)
    to_q, to_kv = split_qkv(linear)
    assert torch.allclose(torch.cat([to_q(x), to_kv(x)], -1), whole)
    k, v = append_table(as_keys_values(to_kv(x), 2), None)
    assert torch.allclose(k, whole[..., 4:8].unflatten(-1, (2, 2)).transpose(1, 2))
    assert torch.allclose(v, whole[..., 8:].unflatten(-1, (2, 2)).transpose(1, 2))


@pytest.mark.parametrize("num_queries", [1, 5])
def test_tokens_are_projected_at_once_or_in_parts(num_queries: int) -> None:
    linear, x = nn.Linear(6, 12).double(), torch.randn(2, 5, 6).double()
    q, kv, to_kv = project_tokens(linear, x, num_queries, 2)
    assert to_kv is not None and q.shape == (2, 2, num_queries, 2) and kv.shape == (2, 5, 2, 2, 2)
    with torch.no_grad():
        found = project_tokens(linear, x, num_queries, 2)
    assert (found[2] is None) == (num_queries == 5)
    assert relative(found[0], q) < 1e-14 and relative(found[1], kv) < 1e-14


def test_a_table_holds_visual_then_key_value_prompts() -> None:
    for share in (True, False):
        layer = prompts(prompted(tiny_vit(), num_visual=4, num_kv=2, share_kv=share))
        qkv, norm = nn.Linear(48, 144).double(), nn.LayerNorm(48).double()
        table = build_table(layer.masked_visual(1), layer.key_value(1), norm, split_qkv(qkv)[1], None, 3)
        assert table is not None and table.shape == (6, 2, 3, 16)
        key, value = table.transpose(0, 2).unbind(1)
        assert torch.equal(key[:, 4:], layer.key) and torch.equal(value[:, 4:], layer.value)
        visual = qkv(norm(layer.visual * layer.keep))[:, 48:].unflatten(-1, (2, 3, 16))
        assert relative(table[:4], visual) < 1e-14
        own = build_table(None, layer.key_value(1), norm, split_qkv(qkv)[1], None, 3)
        assert own is not None and torch.equal(own, table[4:])
    assert build_table(None, None, norm, split_qkv(qkv)[1], None, 3) is None


def test_a_masked_token_is_its_layer_norm_bias() -> None:
    """reference.md section 2: LN(0) = beta still makes a live key."""
    layer = prompts(prompted(tiny_vit(), num_visual=1, num_kv=0))
    layer.keep.zero_()
    qkv = nn.Linear(48, 144).double()
    norm = randomise(nn.LayerNorm(48)).double()
    table = build_table(layer.masked_visual(1), layer.key_value(1), norm, split_qkv(qkv)[1], None, 3)
    assert table is not None
    assert torch.allclose(table[0, 0].flatten(), qkv(norm.bias)[48:96])


@pytest.mark.parametrize("per_image", [True, False])
@pytest.mark.parametrize("k_norm", [None, nn.Identity(), nn.LayerNorm(3).double()])
def test_a_table_stands_behind_the_tokens(k_norm: nn.Module | None, per_image: bool) -> None:
    kv = torch.randn(2, 5, 2, 4, 3, dtype=torch.float64)
    table = torch.randn(*([2] if per_image else []), 6, 2, 4, 3, dtype=torch.float64)
    k, v = append_table(kv, table, k_norm)
    rows = table.expand(2, 6, 2, 4, 3)
    own_k = kv[:, :, 0] if k_norm is None else k_norm(kv[:, :, 0])
    assert torch.equal(k, torch.cat([own_k, rows[:, :, 0]], 1).transpose(1, 2))
    assert torch.equal(v, torch.cat([kv[:, :, 1], rows[:, :, 1]], 1).transpose(1, 2))


class Doubling(nn.Linear):
    """As PEFT does, a layer that computes something else than its weight says."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * F.linear(x, self.weight, self.bias)


@pytest.mark.parametrize("how", ["class", "hook"])
def test_a_projection_that_was_changed_later_is_asked_itself(how: str) -> None:
    """LoRA on qkv: the same logits, with gradients and without, as with twice the weights."""
    model, other = (prompted(tiny_vit(), num_visual=4, num_kv=2) for _ in range(2))
    for block, twin in zip(model.blocks, other.blocks, strict=True):
        qkv = block.attn.qkv
        if how == "hook":
            qkv.register_forward_hook(lambda _, __, out: 2 * out)
        else:
            block.attn.qkv = Doubling(48, 144).double().requires_grad_(False)
            block.attn.qkv.load_state_dict(qkv.state_dict())
        with torch.no_grad():
            twin.attn.qkv.weight.mul_(2)
            twin.attn.qkv.bias.mul_(2)
        assert not is_plain(block.attn.qkv) and is_plain(twin.attn.qkv)
    images = images_for(model)
    found, expected = model(images), other(images)
    assert relative(found, expected) < 1e-12
    ours, theirs = (gradients(m, y.square().sum()) for m, y in ((model, found), (other, expected)))
    assert all(relative(ours[name], theirs[name]) < 1e-11 for name in theirs if theirs[name].any())
    with torch.no_grad():
        assert relative(model(images), expected) < 1e-12
