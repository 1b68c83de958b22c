"""Scores are the gradients of explicit masks, image by image, and the official ones when signed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from support.backbones_for_tests import images_for, prompted, relative, tiny_swin, tiny_vit
from support.conformance import NAMES, Case
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

import e2vpt
from e2vpt.config.pruning import Layout
from e2vpt.errors import ConfigError
from e2vpt.pruning.scores import Scores, score
from e2vpt.pruning.segments import LAYOUTS, split_channels

pytestmark = pytest.mark.usefixtures("one_thread")

MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "vit": (tiny_vit, {}),
    "vit-separate-kv": (tiny_vit, {"share_kv": False}),
    "vit-shallow": (tiny_vit, {"visual_depth": "shallow", "kv_depth": "shallow"}),
    "vit-visual-only": (tiny_vit, {"num_kv": 0}),
    "swin": (tiny_swin, {}),
    "swin-pooled": (tiny_swin, {"pool_prompts": True}),
    "swin-shallow": (tiny_swin, {"visual_depth": "shallow"}),
}
each_model = pytest.mark.parametrize("kind", MODELS)


def made(kind: str, **config: Any) -> nn.Module:
    make, options = MODELS[kind]
    model = prompted(make(), **({"num_visual": 3, "num_kv": 2, "dropout": 0.5} | options | config))
    with torch.no_grad():
        model.get_classifier().weight.mul_(0.1)  # A saturated loss has gradients of rounding errors only.
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            # With timm's 1e-6 a norm undoes any scaling of a token, and token scores are rounding errors too.
            module.eps = 0.1
    return model


def batches(model: nn.Module, *sizes: int) -> list[tuple[Tensor, Tensor]]:
    images = images_for(model, batch=sum(sizes))
    labels = torch.arange(len(images)) % model.num_classes
    return list(zip(images.split(list(sizes)), labels.split(list(sizes)), strict=True))


def explicit(model: nn.Module, segments: int, layout: Layout) -> list[dict[str, Tensor]]:
    """For each block the gradients of masks that multiply its prompts, each image alone: [B, ...]."""
    ((images, labels),) = batches(model.eval(), 4)
    names = {id(p): name for name, p in model.named_parameters()}
    found = []
    for layer in e2vpt.prompt_layers(model):
        part: dict[str, Tensor] = {}
        for kind, parameter in layer.named_parameters():
            grads = []
            for image, label in zip(images, labels, strict=True):
                mask = torch.ones_like(parameter).requires_grad_()
                masked = {names[id(parameter)]: parameter.detach() * mask}
                logits = functional_call(model, masked, image[None])
                grads += torch.autograd.grad(F.cross_entropy(logits, label[None]), mask)
            each = torch.stack(grads)
            if kind == "visual":
                part["segments"] = split_channels(each, segments, layout).sum(-1)
                part["tokens"] = each.sum(-1)
            else:
                part["key_value"] = part.get("key_value", torch.zeros(())) + each.sum((1, 3))
        found.append(part)
    return found


def in_kind(scores: Scores, kind: str) -> tuple[Tensor, ...]:
    parts: tuple[Tensor, ...] = getattr(scores, kind)
    return parts


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@each_model
def test_a_score_is_the_gradient_of_an_explicit_mask(
    kind: str, shared: bool, signed: bool, layout: Layout
) -> None:
    model = made(kind)
    found = score(model, batches(model, 3, 1), num_segments=8, layout=layout, shared=shared, signed=signed)
    masks = explicit(model, 8, layout)
    for name in ("tokens", "segments", "key_value"):
        blocks = [block[name] for block in masks if name in block]
        if shared and blocks:
            blocks = [torch.stack(blocks).sum(0)] * len(blocks)
        expected = [(part if signed else part.abs()).mean(0) for part in blocks]
        given = [part for part in in_kind(found, name) if part.numel()]
        assert len(given) == len(expected) == sum(name in block for block in masks)
        for ours, theirs in zip(given, expected, strict=True):
            assert relative(ours, theirs) < 1e-12, name


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("vit")])
@pytest.mark.shared
def test_signed_scores_are_the_official_mask_gradients(name: str, shared: Path) -> None:
    case = Case(shared / "conformance" / f"{name}.npz")
    loader = [(case.expected["images"], case.expected["labels"])]
    found = score(case.model, loader, num_segments=case.segments, signed=True)
    # A score says what removing would change, so what is masked already scores zero.
    token, segment = case.expected["token_mask"], case.expected["segment_mask"]
    segments = case.expected["grad.segment_mask"] * segment * token[:, None]
    tokens = case.expected["grad.token_mask"] * token
    assert relative(found.segments[0], segments) < 1e-12
    # Sums of segment gradients that cancel to a thousandth, as a norm undoes scaling: rounding weighs more.
    assert (found.tokens[0] - tokens).abs().max() < 1e-12 * segments.abs().max()
    assert relative(found.tokens[0], tokens) < 1e-9


@each_model
def test_scoring_leaves_no_trace(kind: str) -> None:
    model = made(kind).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    score(model, batches(model, 2), num_segments=8)
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert [module.training for module in model.modules()] == modes
    assert all(layer.watch is None for layer in e2vpt.prompt_layers(model))


def test_a_score_is_a_mean_over_images_however_they_are_batched() -> None:
    model = made("vit")
    seen: list[int] = []
    whole = score(model, batches(model, 5), num_segments=8)
    parts = score(model, batches(model, 1, 3, 1), num_segments=8, on_batch=seen.append)
    for one, other in zip(whole.segments, parts.segments, strict=True):
        assert relative(one, other) < 1e-12
    assert seen == [1, 3, 1]


def test_checkpointing_changes_no_score() -> None:
    model = made("vit")
    plain = score(model, batches(model, 2), num_segments=8)
    model.set_grad_checkpointing(True)
    again = score(model, batches(model, 2), num_segments=8)
    assert all(relative(a, b) < 1e-12 for a, b in zip(plain.segments, again.segments, strict=True))


def test_an_unneeded_token_scores_zero_and_a_needed_one_does_not() -> None:
    model = made("vit", num_kv=0)
    with torch.no_grad():
        for layer in e2vpt.prompt_layers(model):
            layer.keep.fill_(1)
            layer.visual[1] = 0
    found = score(model, batches(model, 4), num_segments=8).tokens[0]
    assert found[1] == 0 and found[0] > 0 and found[2] > 0


@pytest.mark.parametrize("shared", [True, False])
def test_scores_that_are_no_numbers_choose_nothing(shared: bool) -> None:
    model = made("vit")
    ((images, labels),) = batches(model, 3)
    images[1, 0, 0, 0] = math.nan
    with pytest.raises(ConfigError, match=r"scores of block 1 \(tokens\) are not finite.*NaN"):
        score(model, [(images, labels)], num_segments=8, shared=shared)


def test_scores_are_finite_wherever_they_come_from() -> None:
    tokens, segments = torch.ones(3).double(), torch.ones(3, 2).double()
    bad = tokens.clone()
    bad[2] = math.inf
    with pytest.raises(ConfigError, match=r"scores of block 2 \(tokens\)"):
        Scores(tokens=(tokens, bad), segments=(segments,) * 2, key_value=(), shared=False, layout="strided")


def test_what_cannot_be_scored_is_said() -> None:
    model = made("vit", num_visual=(3, 2, 3), num_kv=1)
    with pytest.raises(ConfigError, match=r"different numbers of prompts.*shared=False"):
        score(model, batches(model, 1), num_segments=8)
    assert [len(t) for t in score(model, batches(model, 1), num_segments=8, shared=False).tokens] == [3, 2, 3]
    with pytest.raises(ConfigError, match="5 segments do not divide prompts of 48 channels"):
        score(model, batches(model, 1), num_segments=5, shared=False)
    with pytest.raises(ConfigError, match="no images"):
        score(model, [], num_segments=8, shared=False)
    with pytest.raises(ConfigError, match="different numbers of prompts"):
        score(made("vit", num_visual=2, num_kv=(1, 2, 1)), batches(model, 1), num_segments=8)
    with pytest.raises(ConfigError, match="no visual prompts"):
        score(made("vit", num_visual=0), batches(model, 1))
