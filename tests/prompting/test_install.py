"""prompt(): parity with timm, what is tuned, initial values, and what is refused."""

from __future__ import annotations

import pytest
import torch
from support.backbones_for_tests import (
    MODELS,
    NAMED,
    images_for,
    named_backbone,
    prompted,
    relative,
    tiny_swin,
    tiny_vit,
    tuned,
)
from support.prompting_for_tests import each_model, made
from torch import Tensor, nn

import e2vpt
from e2vpt.errors import ConfigError, UnsupportedBackbone
from e2vpt.prompting.prompts import BlockPrompts

pytestmark = pytest.mark.usefixtures("one_thread")


def outputs(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and features; chance, which some positions draw while training, is the same each time."""
    torch.manual_seed(0)
    logits = model(images)
    torch.manual_seed(0)
    return logits, model.forward_features(images)


@pytest.mark.parametrize("key", NAMED)
def test_without_prompts_a_named_model_is_timms(key: str) -> None:
    backbone = named_backbone(key)
    images = images_for(backbone, batch=1)
    bare, switched_off = prompted(backbone, num_visual=0, num_kv=0), prompted(backbone, num_visual=2)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        for model in (backbone, bare, switched_off):
            model.to(dtype)
        x = images.to(dtype)
        for training in (False, True):
            with torch.no_grad():
                expected, features = outputs(backbone.train(training), x)
                logits, tokens = outputs(bare.train(training), x)
                assert relative(logits, expected) < tolerance
                assert relative(tokens, features) < tolerance
                with e2vpt.disabled(switched_off.train(training)):
                    logits, tokens = outputs(switched_off, x)
                    assert relative(logits, expected) < tolerance
                    assert relative(tokens, features) < tolerance
    assert relative(switched_off(x), expected) > 1e-4


@each_model
def test_only_prompts_and_head_are_tuned(kind: str) -> None:
    model = made(kind)
    head = {f"head.fc.{n}" if "swin" in kind else f"head.{n}" for n in ("weight", "bias")}
    names = set(tuned(model))
    assert names - head == {name for name in names if ".attn.prompts." in name}
    assert names >= head and len(names) > len(head)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.train()(images_for(model)).square().sum().backward()
    assert {n for n, p in model.named_parameters() if p.grad is not None} == names
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    optimizer.step()
    after = model.state_dict()
    changed = {name for name, tensor in before.items() if not torch.equal(after[name], tensor)}
    assert names <= changed
    # Shared key-value prompts are one tensor under two names, of which parameters have the first.
    twins = changed - names
    assert {n.removesuffix(".value") + ".key" for n in twins} <= names
    assert all(
        n.endswith(".value") and after[n].data_ptr() == after[f"{n[:-6]}.key"].data_ptr() for n in twins
    )


def test_number_of_tuned_parameters() -> None:
    """p·D visual and H·m·d = m·D shared key-value prompts per block, plus the head."""
    for share, factor in ((True, 1), (False, 2)):
        model = prompted(tiny_vit(), num_visual=(3, 0, 2), num_kv=(2, 1, 0), share_kv=share)
        count = sum(p.numel() for p in tuned(model).values())
        assert count == 5 * 48 + 3 * 48 * factor + 7 * 48 + 7


def test_a_head_made_later_is_tuned() -> None:
    model = made("vit")
    model.reset_classifier(4)
    assert model.head.weight.requires_grad
    headless = e2vpt.prompt(tiny_vit(num_classes=0), e2vpt.PromptConfig(num_visual=2))
    assert headless(images_for(headless)).shape == (2, 48)


def test_prompting_leaves_the_random_state_and_the_modes_alone() -> None:
    backbone = tiny_vit(proj_drop_rate=0.1)
    backbone.train()
    backbone.blocks[1].attn.proj_drop.eval()
    state = torch.get_rng_state()
    model = e2vpt.prompt(backbone, e2vpt.PromptConfig(num_visual=0, num_kv=0))
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in model.blocks[1].attn.children()].count(False) == 1
    assert all(layer.training for layer in e2vpt.prompt_layers(model))


@each_model
def test_initial_values_come_from_the_seed(kind: str) -> None:
    make, options = MODELS[kind]

    def values(seed: int) -> list[Tensor]:
        backbone = make()
        torch.manual_seed(seed)
        model = e2vpt.prompt(backbone, e2vpt.PromptConfig(num_visual=3, num_kv=2, **options))
        return [p for layer in e2vpt.prompt_layers(model) for n, p in layer.named_parameters() if n != "gate"]

    assert all(map(torch.equal, values(1), values(1)))
    assert not any(map(torch.equal, values(1), values(2)))


def test_a_failed_prompt_leaves_the_backbone_as_it_was() -> None:
    backbone = tiny_vit()
    expected = backbone(images_for(backbone))
    backbone.blocks[2].attn.qkv = nn.Sequential(backbone.blocks[2].attn.qkv)
    for config in ({}, {"num_visual": (1, 2)}, {"pool_prompts": True}):
        with pytest.raises((UnsupportedBackbone, ConfigError)):
            e2vpt.prompt(backbone, e2vpt.PromptConfig(**config))
    backbone.blocks[2].attn.qkv = backbone.blocks[2].attn.qkv[0]
    assert all(p.requires_grad for p in backbone.parameters())
    assert torch.equal(backbone(images_for(backbone)), expected)
    e2vpt.prompt(backbone, e2vpt.PromptConfig(num_visual=1))


def test_settings_that_do_not_fit_the_backbone() -> None:
    with pytest.raises(ConfigError, match="pool_prompts is for Swin"):
        e2vpt.prompt(tiny_vit(), e2vpt.PromptConfig(pool_prompts=True))
    with pytest.raises(ConfigError, match="num_visual has 2 counts; the backbone has 3 blocks"):
        e2vpt.prompt(tiny_vit(), e2vpt.PromptConfig(num_visual=(1, 2)))
    with pytest.raises(ConfigError, match="num_kv has 5 counts; the backbone has 4 blocks"):
        e2vpt.prompt(tiny_swin(), e2vpt.PromptConfig(num_kv=(1,) * 5))


def test_prompting_twice_is_refused() -> None:
    model = made("vit")
    with pytest.raises(ConfigError, match="has prompts already"):
        e2vpt.prompt(model)
    with pytest.raises(ConfigError, match=r"no prompts; call e2vpt\.prompt"):
        e2vpt.prompt_layers(tiny_vit())


def test_the_probe_refuses_an_attention_that_computes_something_else() -> None:
    backbone = tiny_vit()
    backbone.blocks[1].attn.scale = 1.0  # what timm reads when it does not fuse
    backbone.blocks[1].attn.fused_attn = False
    with pytest.raises(UnsupportedBackbone, match=r"blocks\.1\.attn computes something else"):
        e2vpt.prompt(backbone)


def test_default_config_and_layers_in_forward_order() -> None:
    model = e2vpt.prompt(tiny_swin())
    layers = e2vpt.prompt_layers(model)
    assert [layer.visual.shape for layer in layers] == [(10, 16), (10, 16), (10, 32), (10, 32)]
    assert [layer.key.shape for layer in layers] == [(2, 5, 8), (2, 5, 8), (4, 5, 8), (4, 5, 8)]
    assert model.prompt_config == e2vpt.PromptConfig()
    assert all(isinstance(layer, BlockPrompts) and bool(layer.keep.all()) for layer in layers)
