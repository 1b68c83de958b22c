"""prompt(): parity with timm, what is frozen, what survives copies, files, compilers and precisions."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from support.backbones_for_tests import (
    MODELS,
    NAMED,
    gradients,
    images_for,
    named_backbone,
    prompted,
    relative,
    tiny_swin,
    tiny_vit,
    tuned,
)
from torch import Tensor, nn

import e2vpt
from e2vpt.errors import ConfigError, UnsupportedBackbone
from e2vpt.prompting.prompts import BlockPrompts

pytestmark = pytest.mark.usefixtures("one_thread")

each_model = pytest.mark.parametrize("kind", MODELS)


def made(kind: str, dtype: torch.dtype = torch.float64, **config: Any) -> nn.Module:
    make, options = MODELS[kind]
    return prompted(make(dtype), **({"num_visual": 3, "num_kv": 2} | options | config))


def shrunk(kind: str, dtype: torch.dtype) -> nn.Module:
    """As few blocks as show every path: compilers take seconds a block."""
    make, options = (tiny_swin, {"depths": (1, 1)}) if "swin" in kind else (tiny_vit, {"depth": 2})
    return prompted(make(dtype, **options), num_visual=3, num_kv=2, **MODELS[kind][1])


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


@each_model
def test_state_dict_keeps_timms_keys(kind: str) -> None:
    backbone, model = MODELS[kind][0](), made(kind)
    ours, timms = model.state_dict(), backbone.state_dict()
    assert [name for name in ours if ".prompts." not in name] == list(timms)
    assert all(
        name.rsplit(".", 1)[1] in ("visual", "key", "value", "gate", "keep")
        for name in set(ours) - set(timms)
    )
    other = made(kind)
    for parameter in other.parameters():
        parameter.data.zero_()
    result = other.load_state_dict(timms, strict=False)
    assert not result.unexpected_keys and all(".prompts." in name for name in result.missing_keys)
    other.load_state_dict(ours, strict=True)
    images = images_for(model)
    assert torch.equal(other(images), model(images))


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("share", [False, True])
def test_loading_keeps_keys_and_values_shared(assign: bool, share: bool) -> None:
    model, other = (
        made("vit", share_kv=share),
        prompted(tiny_vit(), seed=8, num_visual=3, num_kv=2, share_kv=share),
    )
    other.load_state_dict(model.state_dict(), assign=assign)
    assert all((layer.key is layer.value) is share for layer in e2vpt.prompt_layers(other))
    assert torch.equal(other(images_for(model)), model(images_for(model)))
    assert sum(p.numel() for p in tuned(other).values()) == sum(p.numel() for p in tuned(model).values())


def test_moving_off_the_meta_device_keeps_keys_and_values_shared() -> None:
    with torch.device("meta"):
        model = e2vpt.prompt(tiny_meta(), e2vpt.PromptConfig(num_visual=2, num_kv=2))
    model.to_empty(device="cpu")
    assert all(layer.key is layer.value for layer in e2vpt.prompt_layers(model))


def tiny_meta() -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3, num_classes=7)


@each_model
def test_copies_and_pickles_are_whole_and_apart(kind: str) -> None:
    model = made(kind)
    images = images_for(model)
    expected = model(images)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(images), expected)
        assert torch.equal(other.forward_features(images), model.forward_features(images))
        assert [layer.key is layer.value for layer in e2vpt.prompt_layers(other)] == [
            layer.key is layer.value for layer in e2vpt.prompt_layers(model)
        ]
        ids = {id(p) for p in model.parameters()}
        assert not any(id(p) in ids for p in other.parameters())
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
            other.zero_grad()
        assert not torch.equal(other(images), expected)
        assert torch.equal(model(images), expected)


@each_model
def test_gradient_checkpointing_changes_nothing(kind: str) -> None:
    model = made(kind, dropout=0.3).train()
    images, found = images_for(model), []
    for enabled in (False, True):
        model.set_grad_checkpointing(enabled)
        torch.manual_seed(5)
        logits = model(images)
        found.append({"logits": logits} | gradients(model, logits.square().sum()))
    assert all(torch.allclose(found[0][n], found[1][n], rtol=1e-10, atol=1e-12) for n in found[0])


@pytest.mark.parametrize(
    ("kind", "training", "backend"),
    [
        ("vit", True, "aot_eager"),
        ("vit", False, "aot_eager"),
        ("vit-shallow", False, "eager"),
        ("swin", True, "eager"),
        ("swin-shallow-pooled", False, "eager"),
    ],
)
def test_compiled_equals_eager(kind: str, training: bool, backend: str) -> None:
    torch._dynamo.reset()
    model = shrunk(kind, torch.float32).train(training)
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    images = images_for(model)
    expected, found = model(images), compiled(images)
    assert relative(found, expected) < 1e-5
    ours, theirs = gradients(model, found.square().sum()), gradients(model, expected.square().sum())
    scale = max(float(g.abs().max()) for g in theirs.values())
    assert max(float((ours[n] - theirs[n]).abs().max()) for n in theirs) < 1e-5 * scale
    with torch.no_grad():
        assert relative(compiled(images), expected) < 1e-5
        e2vpt.prompt_layers(model)[0].visual.data.mul_(2)
        assert relative(compiled(images), model(images)) < 1e-5
        with e2vpt.disabled(model):
            assert relative(compiled(images), model(images)) < 1e-5


@pytest.mark.parametrize("kind", ["vit", "vit-shallow", "swin", "swin-shallow-pooled"])
def test_exported_program_equals_eager(kind: str) -> None:
    model = shrunk(kind, torch.float32).eval()
    images = images_for(model)
    with torch.no_grad():
        expected = model(images)
        program = torch.export.export(model, (images,))
        assert relative(program.module()(images), expected) < 1e-5


@each_model
def test_inference_modes_agree(kind: str) -> None:
    model = made(kind)
    images = images_for(model)
    expected = model(images)
    for context in (torch.no_grad, torch.inference_mode, torch.no_grad):
        with context():
            for _ in range(2):
                assert relative(model(images), expected) < 1e-12


@each_model
@pytest.mark.parametrize("training", [True, False])
def test_bf16_autocast_is_close(kind: str, training: bool) -> None:
    model = made(kind, torch.float32).train(training)
    images = images_for(model)
    expected = model(images)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(images)
        with torch.no_grad():
            folded = [model(images) for _ in range(2)]
    assert relative(found, expected) < 0.1
    assert all(relative(f, expected) < 0.1 for f in folded)
    ours, theirs = gradients(model, found.float().square().sum()), gradients(model, expected.square().sum())
    ours_flat, theirs_flat = (torch.cat([g.flatten() for g in gs.values()]) for gs in (ours, theirs))
    assert torch.cosine_similarity(ours_flat, theirs_flat, dim=0) > 0.98


@each_model
def test_bf16_backbone_with_fp32_prompts(kind: str) -> None:
    model = made(kind, torch.float32)
    images = images_for(model)
    expected = model(images)
    model.bfloat16()
    for layer in e2vpt.prompt_layers(model):
        layer.float()
    found = model(images.bfloat16())
    assert found.dtype == torch.bfloat16 and relative(found, expected) < 0.1
    found.float().square().sum().backward()
    for layer in e2vpt.prompt_layers(model):
        assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in layer.parameters())
    with torch.no_grad():
        assert relative(model(images.bfloat16()), expected) < 0.1


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
