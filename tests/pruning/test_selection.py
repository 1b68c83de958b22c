"""select, apply, rewind: a removed token never was, optimizers follow, and every way back is exact."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.backbones_for_tests import images_for, prompted, randomise, tiny_swin, tiny_vit
from torch import Tensor, nn
from torch.nn import functional as F

import e2vpt
from e2vpt.errors import ConfigError
from e2vpt.pruning.applying import apply, visual_kept
from e2vpt.pruning.rewinding import rewind, snapshot
from e2vpt.pruning.scores import Scores
from e2vpt.pruning.segments import expand
from e2vpt.pruning.selection import Selection, Wanted, select

pytestmark = pytest.mark.usefixtures("one_thread")

MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "vit": (tiny_vit, {}),
    "vit-separate-kv": (tiny_vit, {"share_kv": False}),
    "vit-shallow": (tiny_vit, {"visual_depth": "shallow"}),
    "swin": (tiny_swin, {}),
    "swin-shallow-pooled": (tiny_swin, {"visual_depth": "shallow", "pool_prompts": True}),
}
each_model = pytest.mark.parametrize("kind", MODELS)


def made(kind: str = "vit", **config: Any) -> nn.Module:
    make, options = MODELS[kind]
    model = prompted(make(), **({"num_visual": 4, "num_kv": 3} | options | config))
    for layer in e2vpt.prompt_layers(model):
        if layer.keep is not None:
            layer.keep.fill_(1)
    return model


def scores_of(tokens: list[list[float]], shared: bool, segments: int = 2, seed: int = 0) -> Scores:
    """Token scores as given, segment scores random but positive, three key-value prompts a block."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {len(t): torch.rand(len(t), segments, generator=generator).double() + 0.1 for t in tokens}
    return Scores(
        tokens=tuple(torch.tensor(t, dtype=torch.float64) for t in tokens),
        segments=tuple(drawn[len(t)] for t in tokens),
        key_value=(torch.tensor([0.2, 0.3, 0.1]).double(),) * len(tokens),
        shared=shared,
        layout="strided",
    )


def some(
    model: nn.Module, tokens: Wanted = 1.0, segments: Wanted = 1.0, key_value: Wanted = 1.0
) -> Selection:
    """A selection for this model by random scores, other ones for every block."""
    generator = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator).double()

    layers = e2vpt.prompt_layers(model)
    scores = Scores(
        tokens=tuple(draw(layer.num_visual) for layer in layers),
        segments=tuple(draw(layer.num_visual, 8) for layer in layers),
        key_value=tuple(draw(layer.num_kv) for layer in layers),
        shared=False,
        layout="strided",
    )
    return select(scores, tokens=tokens, segments=segments, key_value=key_value)


def test_the_highest_scores_stay() -> None:
    chosen = select(scores_of([[1, 4, 2, 3], [1, 4, 2, 3]], shared=True), tokens=0.5, key_value=1)
    assert [t.tolist() for t in chosen.tokens] == [[False, True, False, True]] * 2
    assert [t.tolist() for t in chosen.key_value] == [[False, True, False]] * 2
    assert all(
        torch.equal(s, t[:, None].expand(-1, 2)) for s, t in zip(chosen.segments, chosen.tokens, strict=True)
    )


def test_blocks_compete_where_every_block_has_its_own_mask() -> None:
    scores = scores_of([[9, 8, 7], [1, 2, 3]], shared=False)
    free = select(scores, tokens=3, at_least_one=False)
    assert [t.sum().item() for t in free.tokens] == [3, 0]
    held = select(scores, tokens=3)
    assert [t.tolist() for t in held.tokens] == [[True, True, False], [False, False, True]]


def test_segments_are_chosen_among_the_tokens_that_stay() -> None:
    scores = scores_of([[1, 2, 3, 4]], shared=True)
    chosen = select(scores, tokens=2, segments=3)
    assert chosen.tokens[0].tolist() == [False, False, True, True]
    assert chosen.segments[0].sum() == 3 and not chosen.segments[0][:2].any()
    lone = select(scores, tokens=2, segments=1)
    assert lone.tokens[0].sum() == 1  # A token without segments would still be a live key.


def test_ties_go_to_the_first_and_blocks_without_prompts_stay_empty() -> None:
    chosen = select(scores_of([[1, 1, 1], []], shared=True), tokens=2)
    assert chosen.tokens[0].tolist() == [True, True, False] and chosen.tokens[1].shape == (0,)


@given(
    blocks=st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(any),
    tokens=st.floats(0, 1),
    segments=st.floats(0, 1),
    at_least_one=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_shares_are_kept_and_more_keeps_all_that_less_kept(
    blocks: list[int], tokens: float, segments: float, at_least_one: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    given_scores = [torch.rand(p, generator=generator).tolist() for p in blocks]
    scores = scores_of(given_scores, shared=False, seed=seed)
    chosen = select(scores, tokens=tokens, at_least_one=at_least_one)
    total, kept = sum(blocks), sum(int(t.sum()) for t in chosen.tokens)
    live = sum(p > 0 for p in blocks) if at_least_one else 0
    assert kept == max(int(tokens * total + 0.5), live)
    assert not at_least_one or all(bool(t.any()) for t in chosen.tokens if len(t))
    more = select(scores, tokens=(tokens + 1) / 2, at_least_one=at_least_one)
    assert all(bool((~a | b).all()) for a, b in zip(chosen.tokens, more.tokens, strict=True))
    fine = select(scores, tokens=tokens, segments=segments, at_least_one=at_least_one)
    assert all(bool((s.any(-1) == t).all()) for s, t in zip(fine.segments, fine.tokens, strict=True))
    assert sum(int(s.sum()) for s in fine.segments) == max(
        int(segments * kept * 2 + 0.5), live if kept else 0
    )


@pytest.mark.parametrize("wanted", [1.5, -0.1, 5, -1, True, float("nan")])
def test_what_cannot_be_kept_is_refused(wanted: Any) -> None:
    with pytest.raises(ConfigError, match="cannot be kept of 4"):
        select(scores_of([[1, 2, 3, 4]], shared=True), tokens=wanted)


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
    with torch.no_grad():
        model(images)
        apply(model, some(model, tokens=0.5, segments=0.5, key_value=0.5))
        folded = model(images)
    assert torch.allclose(folded, model(images), rtol=1e-12)


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


@pytest.mark.parametrize("kind", ["vit", "vit-separate-kv", "swin"])
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
            kept, dim = cut[kind_of][index]
            state = {k: v.index_select(dim, kept.nonzero()[:, 0]) if v.dim() else v for k, v in state.items()}
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


@pytest.mark.parametrize("tokens", [0.5, 0.0])
@each_model
def test_rewinding_returns_to_the_beginning(kind: str, tokens: float) -> None:
    model = made(kind)
    images, origin = images_for(model), snapshot(model)
    first, before = copy.deepcopy(model), model(images)
    selection = some(model, tokens=tokens, segments=0.5, key_value=tokens)
    randomise(model.get_classifier(), seed=7)
    apply(model, selection)
    rewind(model, origin)
    assert model(images).equal(before)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {
        n for n, p in first.named_parameters() if p.requires_grad
    }
    for layer, other in zip(e2vpt.prompt_layers(model), e2vpt.prompt_layers(first), strict=True):
        assert (layer.key is layer.value) == (other.key is other.value)
    rewind(model, origin, selection)
    apply(first, selection)
    assert model(images).equal(first(images))


def test_a_snapshot_is_a_copy() -> None:
    model = made()
    images, origin = images_for(model), snapshot(model)
    before = model(images)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(1)
        rewind(model, origin)
        assert model(images).equal(before)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(1)
        rewind(model, origin)
    assert model(images).equal(before)
