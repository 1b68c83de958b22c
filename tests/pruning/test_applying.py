"""Pruned prompts are gone, equal those that never were, and the optimizer follows."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.backbones_for_tests import images_for, prompted, tiny_vit
from support.pruning_for_tests import MODELS, each_model, made, scores_of, some
from torch import nn
from torch.nn import functional as F

import e2vpt
from e2vpt.errors import ConfigError
from e2vpt.pruning.applying import apply, num_kept, visual_kept
from e2vpt.pruning.segments import expand
from e2vpt.pruning.selection import select

pytestmark = pytest.mark.usefixtures("one_thread")


@each_model
def test_a_state_dict_can_be_stored_as_it_is(kind: str, tmp_path: Path) -> None:
    """safetensors refuses tensors that share memory, and those with gaps."""
    model, other, file = made(kind), made(kind), tmp_path / "state.safetensors"
    for selection in (some(model, 0.5, 0.5, 0.6), None):
        save_file(model.state_dict(), file)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.add_(1)
        other.load_state_dict(load_file(file))
        assert torch.equal(other(images_for(other)), model(images_for(model)))
        if selection is not None:
            apply(model, selection)
            apply(other, selection)


@each_model
def test_a_removed_token_and_one_that_never_was_give_the_same_logits(kind: str) -> None:
    model = made(kind)
    images = images_for(model)
    selection = some(model, tokens=0.5, key_value=0.5)
    before = copy.deepcopy(model)
    apply(model, selection)
    counts = [(layer.num_visual, layer.num_kv) for layer in e2vpt.prompt_layers(model)]
    assert counts == [
        (int(t.sum()), int(kv.sum())) for t, kv in zip(selection.tokens, selection.key_value, strict=True)
    ]
    visual, kv = zip(*counts, strict=True)
    make, options = MODELS[kind]
    never = prompted(make(), **(options | {"num_visual": visual, "num_kv": kv})).eval()
    for small, whole, t, m in zip(
        e2vpt.prompt_layers(never),
        e2vpt.prompt_layers(before),
        selection.tokens,
        selection.key_value,
        strict=True,
    ):
        with torch.no_grad():
            if small.visual is not None:
                small.visual.copy_(whole.visual[t])
                small.keep.fill_(1)
            if small.key is not None:
                small.key.copy_(whole.key[:, m])
                small.value.copy_(whole.value[:, m])
            if small.gate is not None:
                small.gate.copy_(whole.gate)
    for context in (torch.enable_grad, torch.no_grad, torch.no_grad):
        with context():
            assert model(images).equal(never(images))
            assert not model(images).equal(before(images))


@each_model
def test_a_zeroed_segment_is_a_zero_in_the_prompt(kind: str) -> None:
    model = made(kind)
    selection = some(model, segments=0.5)
    dense = copy.deepcopy(model)
    apply(model, selection)
    for layer, t, s in zip(e2vpt.prompt_layers(dense), selection.tokens, selection.segments, strict=True):
        if layer.visual is not None:
            with torch.no_grad():
                layer.visual.mul_(expand(s.double(), layer.visual.shape[1], "strided"))
            layer.resize(visual=layer.visual[t], keep=torch.ones_like(layer.visual[t]))
    images = images_for(model)
    assert model(images).equal(dense(images))
    for layer, other in zip(e2vpt.prompt_layers(model), e2vpt.prompt_layers(dense), strict=True):
        assert layer.visual is None or layer.visual.equal(other.visual)


@each_model
def test_folded_tables_follow(kind: str) -> None:
    model = made(kind).eval()
    images = images_for(model)
    with torch.no_grad(), e2vpt.folded(model):
        before = model(images)
    apply(model, some(model, tokens=0.5, segments=0.5, key_value=0.5))
    with torch.no_grad(), e2vpt.folded(model):
        after = model(images)
    assert torch.allclose(after, model(images), rtol=1e-12) and not torch.equal(after, before)


def test_all_prompts_may_go() -> None:
    model, plain = made(), tiny_vit()
    images = images_for(model)
    scores = scores_of([[1, 2, 3, 4]] * 3, shared=True)
    apply(model, select(scores, tokens=0.0, key_value=0, at_least_one=False))
    assert [(layer.num_visual, layer.num_kv) for layer in e2vpt.prompt_layers(model)] == [(0, 0)] * 3
    assert visual_kept(model) == 0
    assert torch.allclose(model(images), plain(images), rtol=1e-12)


def test_what_is_left_is_counted_against_the_beginning() -> None:
    model = made()
    assert visual_kept(model) == 1
    apply(model, select(scores_of([[1, 2, 3, 4]] * 3, shared=True), tokens=0.5))
    assert visual_kept(model) == 0.5
    apply(model, select(scores_of([[1, 2]] * 3, shared=True), segments=0.5))
    assert visual_kept(model) == 0.25
    assert visual_kept(prompted(tiny_vit(), num_visual=0, num_kv=1)) == 1


@each_model
def test_what_was_pruned_stays_pruned(kind: str) -> None:
    model = made(kind)
    before = num_kept(model)
    apply(model, some(model, segments=0.5))
    after, images = num_kept(model), images_for(model)
    expected = model(images)
    apply(model, some(model))
    assert num_kept(model) == after < before
    assert model(images).equal(expected)


def test_a_selection_for_other_prompts_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"for other prompts.*the model has \[\(4, 3\)"):
        apply(made(), select(scores_of([[1, 2, 3]] * 3, shared=True)))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    optimizer.zero_grad()
    images = images_for(model, batch=3, seed=seed)
    F.cross_entropy(model(images), torch.arange(3)).backward()
    optimizer.step()


def make_optimizer(how: str, model: nn.Module) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if how == "sgd":
        return torch.optim.SGD(parameters, 1e-3, momentum=0.9)
    return torch.optim.AdamW(parameters, 1e-3, amsgrad=True)


@pytest.mark.parametrize("kind", ["vit", "vit-separate-kv", "vit-gated", "swin"])
@pytest.mark.parametrize("how", ["adamw", "sgd"])
def test_the_optimizer_follows(how: str, kind: str) -> None:
    """After pruning, training goes on as that of a model that never had more, with the state cut by hand."""
    model = made(kind).train()
    optimizer = make_optimizer(how, model)
    for seed in range(3):
        step(model, optimizer, seed)
    selection = some(model, tokens=0.5, key_value=0.5)
    cut = {"visual": [(t, 0) for t in selection.tokens], "key": [(m, 1) for m in selection.key_value]}
    cut["value"] = cut["key"]
    by_hand: list[dict[str, Any]] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        state = {k: v.clone() for k, v in optimizer.state[parameter].items()}
        kind_of = name.rpartition(".")[2]
        if ".prompts." in name:
            index = [layer.get_parameter(kind_of) is parameter for layer in e2vpt.prompt_layers(model)].index(
                True
            )
            if kind_of != "gate":
                kept, dim = cut[kind_of][index]
                rows = kept.nonzero()[:, 0]
                state = {k: v.index_select(dim, rows) if v.dim() else v for k, v in state.items()}
        by_hand.append(state)
    apply(model, selection, optimizer)
    never = copy.deepcopy(model)
    other = make_optimizer(how, never)
    other.load_state_dict(
        {"state": dict(enumerate(by_hand)), "param_groups": other.state_dict()["param_groups"]}
    )
    for seed in range(3, 6):
        step(model, optimizer, seed)
        step(never, other, seed)
    for (name, one), two in zip(model.named_parameters(), never.parameters(), strict=True):
        assert one.equal(two), name


def test_a_prompt_that_is_gone_leaves_the_optimizer() -> None:
    model = made().train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3)
    step(model, optimizer, 0)
    apply(model, select(scores_of([[1, 2, 3, 4]] * 3, shared=True), tokens=0, at_least_one=False), optimizer)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in model.parameters() if p.requires_grad}
    step(model, optimizer, 1)
