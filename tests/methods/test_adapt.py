"""Every method: what it tunes, how much that is, and where it starts."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from support.backbones_for_tests import images_for, relative, tiny_eva, tiny_vit
from support.methods_for_tests import BACKBONES, PROMPTS, both_backbones, count, every_method, made, moved
from torch import nn
from torch.nn import functional as F

from e2vpt.config import MethodConfig
from e2vpt.errors import ConfigError
from e2vpt.methods.adapt import adapt
from e2vpt.methods.names import METHODS
from e2vpt.prompting.parts import classifier, find_prompts, tuned_parameters

pytestmark = pytest.mark.usefixtures("one_thread")


def prompt_count(model: nn.Module) -> int:
    return sum(p.numel() for layer in find_prompts(model) for p in layer.parameters())


def test_parameters_of_a_vit_are_the_formulas() -> None:
    """L = 3 blocks, D = 48, MLP twice as wide, patches of 8 pixels, H = 3."""
    blocks, d, hidden, p, m = 3, 48, 96, 4, 3
    biases = blocks * (3 * d + d + hidden + d + 2 * d) + d + d  # projections, norms; patches, final norm
    norms = (2 * blocks + 1) * 2 * d
    total = sum(x.numel() for x in tiny_vit().parameters()) - sum(
        x.numel() for x in tiny_vit().head.parameters()
    )
    one_block = 4 * d * d + 4 * d + 2 * d * hidden + d + hidden + 4 * d
    expected = {
        "e2vpt": (biases + blocks * (5 * d + hidden), blocks * (p + m) * d),  # and scales of outputs
        "vpt-deep": (0, blocks * p * d),
        "vpt-shallow": (0, p * d),
        "kv": (0, blocks * m * d),
        "linear": (0, 0),
        "full": (total, 0),
        "partial": (one_block + 2 * d, 0),
        "mlp": (2 * (d * d + d), 0),
        "bias": (biases, 0),
        "layernorm": (norms, 0),
        "adapter": (blocks * (2 * 5 * d + 5 + d), 0),
        "lora": (blocks * 2 * (d + 3 * d), 0),
        "dora": (blocks * (2 * (d + 3 * d) + 3 * d), 0),
        "loha": (blocks * 2 * 2 * (d + 3 * d), 0),
        "oft": (blocks * d * 15 // 2, 0),
        "ia3": (blocks * (3 * d + hidden), 0),
    }
    for method, (beside, prompts) in expected.items():
        model = made("vit", method)
        assert (count(model), prompt_count(model)) == (beside, prompts), method
    side = count(made("vit", "sidetune"))
    assert side == (7 * 7 * 3 * 32 + 32) + (9 * 32 * 64 + 64) + (9 * 64 * 128 + 128) + (128 * d + d) + 1
    separate = dataclasses.replace(PROMPTS, share_kv=False)
    scales = biases - (2 * blocks + 1) * d - d  # one beside every bias of a linear layer
    gammas = norms // 2
    for beside, others in (
        *(("auto", biases + scales), ("bias", biases), ("none", 0), ("norm", norms)),
        *(("gamma", biases + gammas), ("scale", biases + scales)),
    ):
        together = adapt(tiny_vit(), "e2vpt", separate, MethodConfig(beside=beside))
        assert (count(together), prompt_count(together)) == (others, blocks * (p + 2 * m) * d)


def test_biases_of_an_eva_are_the_formula() -> None:
    """Those of queries and values lie beside the projection, keys have none; MLP twice as wide."""
    blocks, d, hidden = 3, 48, 96
    beside = blocks * (2 * d + d + hidden + d + 2 * d) + d + d  # projections, norms; patches, final norm
    scales = blocks * (3 * d + d + hidden + d)
    assert count(made("eva", "bias")) == beside
    assert {name.split(".")[-1] for name in tuned_parameters(made("eva", "bias"))} == {
        "bias",
        "q_bias",
        "v_bias",
    }
    assert count(made("eva", "e2vpt")) == beside + scales
    # Three projections: keys have none of their own either. With rotation, one that they had would count.
    assert count(adapt(tiny_eva(qkv_fused=False), "bias")) == beside
    assert count(adapt(tiny_eva(attn_type="rope"), "e2vpt", PROMPTS)) == beside + scales + blocks * d


@pytest.mark.parametrize(
    ("kind", "number", "tuned"),
    [
        ("vit", 1, {"blocks.2", "norm"}),
        ("vit", 2, {"blocks.1", "blocks.2", "norm"}),
        ("swin", 1, {"layers.1.blocks.1", "norm"}),
        ("swin", 3, {"layers.0.blocks.1", "layers.1.blocks.0", "layers.1.blocks.1", "norm"}),
    ],
)
def test_partial_tunes_the_last_blocks(kind: str, number: int, tuned: set[str]) -> None:
    model = made(kind, "partial", MethodConfig(partial_blocks=number))
    names = set(tuned_parameters(model))
    assert names == {
        n for n, _ in model.named_parameters() if any(n.startswith(f"{part}.") for part in tuned)
    }
    assert all(any(name.startswith(f"{part}.") for name in names) for part in tuned)


def test_only_e2vpt_from_the_first_block_on_tunes_biases_by_itself() -> None:
    late = dataclasses.replace(PROMPTS, first_block=1)
    assert adapt(tiny_vit(), "e2vpt", late).adapted.options.beside == "none"
    for method in set(METHODS) - {"e2vpt"}:
        assert adapt(tiny_vit(), method, PROMPTS).adapted.options.beside == "none"


@both_backbones
def test_two_adapters_a_block_the_way_of_houlsby(kind: str) -> None:
    one, two = (
        made(kind, "adapter", MethodConfig(adapter_width=5, adapter_places=p))
        for p in ("pfeiffer", "houlsby")
    )
    assert count(two) == 2 * count(one)
    assert relative(moved(two)(images_for(two)), moved(one)(images_for(one))) > 1e-3


@both_backbones
@every_method
def test_it_starts_where_the_backbone_is(kind: str, method: str) -> None:
    model, plain = made(kind, method), BACKBONES[kind]()
    plain.load_state_dict(
        plain.state_dict() | {k: v for k, v in model.state_dict().items() if k.startswith("head")},
        strict=False,
    )
    found, expected = model(images_for(plain)), plain(images_for(plain))
    starts_there = method in (
        *("linear", "full", "partial", "bias", "layernorm", "adapter", "lora", "dora", "loha", "lokr"),
        *("oft", "ia3"),
    )
    assert (relative(found, expected) < 1e-12) == starts_there


@both_backbones
@every_method
def test_a_step_moves_what_is_tuned_and_nothing_else(kind: str, method: str) -> None:
    model = moved(made(kind, method)).train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    F.cross_entropy(model(images_for(model)), torch.tensor([1, 2])).backward()
    optimizer.step()
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    tuned = {name for name, p in model.named_parameters() if p.requires_grad}
    assert changed == tuned
    prompts = {id(p) for layer in find_prompts(model) for p in layer.parameters()}
    head = {id(p) for p in classifier(model).parameters()}
    others = {n for n, p in model.named_parameters() if p.requires_grad and id(p) not in prompts | head}
    assert others == set(tuned_parameters(model))


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("magic", {}, "method is 'magic'; expected one of e2vpt, vpt-deep"),
        ("partial", {"partial_blocks": 4}, "partial_blocks is 4; the backbone has 3 blocks"),
        ("partial", {"partial_blocks": 0}, "partial_blocks is 0; expected a whole number of at least 1"),
        ("lora", {"lora_rank": 999}, "lora_rank is 999; the most is 256"),
        ("bias", {"beside": "all"}, "beside is 'all'; expected one of auto, none, bias, norm"),
    ],
)
def test_bad_settings(method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        adapt(tiny_vit(), method, PROMPTS, MethodConfig(**options))
