"""folded(): the numbers of the unfolded pass, tables computed once, nothing left behind."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from support.backbones_for_tests import images_for, prompted, randomise, relative, tiny_swin, tiny_vit
from torch import Tensor, nn

import e2vpt
from e2vpt.errors import ConfigError
from e2vpt.prompting.attention import AttentionWithPrompts

pytestmark = pytest.mark.usefixtures("one_thread")

EXACT = 1e-12
MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "vit": (tiny_vit, {}),
    "vit-separate": (tiny_vit, {"share_kv": False}),
    "vit-qk-norm": (lambda dtype=torch.float64: tiny_vit(dtype, qk_norm=True), {}),
    "vit-avg": (lambda dtype=torch.float64: tiny_vit(dtype, global_pool="avg"), {}),
    "vit-visual-only": (tiny_vit, {"num_kv": 0}),
    "vit-kv-only": (tiny_vit, {"num_visual": 0}),
    "vit-some-blocks": (tiny_vit, {"num_visual": (0, 3, 0), "num_kv": (0, 0, 2)}),
    "vit-shallow": (tiny_vit, {"visual_depth": "shallow"}),
    "vit-gated": (tiny_vit, {"attention": "gated"}),
    "swin-gated": (tiny_swin, {"attention": "gated"}),
    "swin": (tiny_swin, {}),
    "swin-separate": (tiny_swin, {"share_kv": False}),
    "swin-shallow": (tiny_swin, {"visual_depth": "shallow"}),
    "swin-pooled": (tiny_swin, {"pool_prompts": True}),
}
each_model = pytest.mark.parametrize("kind", MODELS)


def made(kind: str, dtype: torch.dtype = torch.float64, **config: Any) -> nn.Module:
    make, options = MODELS[kind]
    return prompted(make(dtype), **({"num_visual": 3, "num_kv": 2} | options | config))


def stored(model: nn.Module) -> list[Any]:
    return [m.stored for m in model.modules() if isinstance(m, AttentionWithPrompts)]


def prune(model: nn.Module) -> None:
    for index, layer in enumerate(e2vpt.prompt_layers(model)):
        if layer.visual is not None:
            layer.resize(visual=layer.visual[index % 2 :], keep=layer.keep[index % 2 :])


@pytest.mark.parametrize("pruned", [False, True])
@each_model
def test_it_equals_the_unfolded_pass(kind: str, pruned: bool) -> None:
    model = made(kind)
    if pruned:
        prune(model)
    images = images_for(model)
    expected, features = model(images), model.forward_features(images)
    with e2vpt.folded(model):
        for context in (torch.inference_mode, torch.no_grad, torch.enable_grad):
            with context():
                for _ in range(2):
                    assert relative(model(images), expected) < EXACT
                assert relative(model.forward_features(images), features) < EXACT
    assert relative(model(images), expected) < EXACT


class Calls:
    """How often the norms in front of attention are called."""

    def __init__(self, model: nn.Module) -> None:
        self.count = 0
        for module in model.modules():
            if isinstance(module, AttentionWithPrompts):
                module.block[0].norm1.register_forward_hook(self.add)

    def add(self, *_: Any) -> None:
        self.count += 1


@pytest.mark.parametrize("kind", ["vit", "swin"])
def test_tables_are_computed_once(kind: str) -> None:
    model = made(kind)
    images, calls, blocks = images_for(model), Calls(model), len(stored(model))
    with torch.no_grad():
        model(images)
        assert calls.count == 2 * blocks  # the image tokens, and the prompts
        with e2vpt.folded(model):
            for passes in range(3):
                model(images)
                assert calls.count == (4 + passes) * blocks
        model(images)
    assert calls.count == 8 * blocks


@pytest.mark.parametrize("kind", ["vit", "vit-kv-only", "vit-qk-norm", "swin"])
def test_every_precision_has_tables_of_its_own(kind: str) -> None:
    model = made(kind, torch.float32)
    images = images_for(model)

    def half(model: nn.Module) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return model(images)

    def both() -> tuple[Tensor, Tensor]:
        return model(images), half(model)

    with torch.no_grad():
        plain, cast = both()
        assert not torch.equal(plain, cast.float())
        for outside in (torch.enable_grad(), torch.autocast("cpu", torch.bfloat16)):
            with outside, torch.no_grad(), e2vpt.folded(model), torch.autocast("cpu", enabled=False):
                for _ in range(2):
                    assert all(map(torch.equal, both(), (plain, cast)))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("kind", ["vit", "vit-kv-only"])
def test_a_bf16_backbone_with_fp32_prompts(kind: str, affine: bool) -> None:
    model = made(kind, torch.float32)
    for block in model.blocks if not affine else ():
        block.norm1 = nn.LayerNorm(48, elementwise_affine=False)
    model.bfloat16()
    for layer in e2vpt.prompt_layers(model):
        layer.float()
    images = images_for(model)
    with torch.no_grad():
        expected = model(images)
        with e2vpt.folded(model):
            assert torch.equal(model(images), expected)
            assert stored(model)[0][0][None].dtype == torch.bfloat16


@each_model
def test_training_mode_is_refused(kind: str) -> None:
    model = made(kind)
    images = images_for(model)
    with e2vpt.folded(model), pytest.raises(ConfigError, match=r"only predicts.*model\.eval\(\)"):
        model.train()(images)
    with pytest.raises(ConfigError, match=r"training mode.*model\.eval\(\)"), e2vpt.folded(model):
        raise AssertionError("entered")
    model.eval()
    model.blocks[1].train() if hasattr(model, "blocks") else model.layers[0].blocks[1].train()
    with pytest.raises(ConfigError, match="training mode"), e2vpt.folded(model):
        raise AssertionError("entered")
    assert not any(stored(model))


def test_scoring_is_refused() -> None:
    model = made("vit")
    loader = [(images_for(model), torch.tensor([0, 1]))]
    with e2vpt.folded(model), pytest.raises(ConfigError, match="score prompts outside the block"):
        e2vpt.pruning.score(model, loader, num_segments=8)
    assert all(layer.watch is None for layer in e2vpt.prompt_layers(model))


@each_model
def test_disabled_inside_is_the_backbone(kind: str) -> None:
    model, backbone = made(kind), MODELS[kind][0]()
    images = images_for(model)
    expected = model(images)
    with e2vpt.folded(model):
        with e2vpt.disabled(model):
            assert relative(model(images), backbone(images)) < EXACT
        assert relative(model(images), expected) < EXACT
        with e2vpt.disabled(model):
            assert relative(model(images), backbone(images)) < EXACT
    with e2vpt.disabled(model), e2vpt.folded(model):
        assert relative(model(images), backbone(images)) < EXACT


@pytest.mark.parametrize("kind", ["vit", "vit-kv-only", "vit-separate", "vit-visual-only", "swin"])
def test_entering_again_sees_what_changed_and_leaves_the_rest(kind: str) -> None:
    model = made(kind)
    images = images_for(model)
    with torch.no_grad(), e2vpt.folded(model):
        first = model(images)
        for parameter in e2vpt.prompt_layers(model)[1].parameters():
            parameter.add_(0.5)
        changed = copy.deepcopy(model)(images)
        assert relative(changed, first) > 1e-6
        assert torch.equal(model(images), first)
        with e2vpt.folded(model):
            assert relative(model(images), changed) < EXACT
        assert torch.equal(model(images), first)
    assert relative(model(images), changed) < EXACT


def test_nothing_is_left_after_an_error() -> None:
    model = made("vit")
    before = {name: set(vars(module)) for name, module in model.named_modules()}

    def fail() -> None:
        with e2vpt.folded(model):
            model(images_for(model))
            assert all(stored(model))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert not any(stored(model))
    assert {name: set(vars(module)) for name, module in model.named_modules()} == before


@each_model
def test_copies_pickles_and_state_are_those_of_any_model(kind: str) -> None:
    model = made(kind)
    images = images_for(model)
    state = model.state_dict()
    with torch.no_grad(), e2vpt.folded(model):
        expected = model(images)
        assert model.state_dict().keys() == state.keys()
        others = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
        for other in others:
            assert not any(stored(other))
            assert relative(other(images), expected) < EXACT
            randomise(other, seed=4)
            assert relative(other(images), expected) > 1e-6
        assert all(stored(model)) and torch.equal(model(images), expected)
    others[0].train()(images)


def test_threads_come_and_go() -> None:
    model = made("vit")
    batches = [images_for(model, seed=seed) for seed in range(4)]
    with torch.no_grad():
        expected = [model(x) for x in batches]

    @torch.no_grad()
    def one(index: int) -> float:
        context: AbstractContextManager[None] = e2vpt.folded(model)
        with context:
            return max(relative(model(batches[i % 4]), expected[i % 4]) for i in (index, index + 1))

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(one, range(64))) < EXACT
    assert not any(stored(model))


def test_a_compiled_model_is_folded_too() -> None:
    torch._dynamo.reset()
    model = prompted(tiny_vit(torch.float32, depth=2), num_visual=3, num_kv=2)
    compiled, images = torch.compile(model, backend="eager", fullgraph=True), images_for(model)
    with torch.no_grad():
        expected = model(images)
        with e2vpt.folded(model):
            assert relative(compiled(images), expected) < 1e-5
            assert not any(tables for each in stored(model) for tables in each)
            model(images)
            assert relative(compiled(images), expected) < 1e-5
        e2vpt.prompt_layers(model)[0].visual.mul_(2)
        assert relative(compiled(images), model(images)) < 1e-5


def test_an_exported_program_holds_the_tables() -> None:
    model = prompted(tiny_vit(torch.float32, depth=2), num_visual=3, num_kv=2)
    images, calls = images_for(model), len(stored(model))
    with torch.no_grad():
        expected = model(images)
        programs = [torch.export.export(model, (images,))]
        with e2vpt.folded(model):
            model(images)
            programs.append(torch.export.export(model, (images,)))
    assert all(relative(program.module()(images), expected) < 1e-5 for program in programs)
    norms = [str(program.graph).count("aten.layer_norm") for program in programs]
    assert norms[0] - norms[1] == calls


def test_a_model_without_prompts_is_left_alone() -> None:
    model = tiny_vit()
    with e2vpt.folded(model):
        model(images_for(model))
