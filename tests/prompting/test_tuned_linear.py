"""Output scales: the numbers of a model whose weights were multiplied by them, wherever a weight is read.

And biases of keys that no softmax sees.
"""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from support.backbones_for_tests import MODELS, images_for, relative, tuned
from torch import Tensor, nn
from torch.func import functional_call

import e2vpt
from e2vpt import MethodConfig, PromptConfig
from e2vpt.errors import ConfigError
from e2vpt.prompting.tuned_linear import TunedLinear

pytestmark = pytest.mark.usefixtures("one_thread")

EXACT = 1e-10
KINDS = MODELS | {
    "vit-no-bias": (lambda dtype=torch.float64: MODELS["vit"][0](dtype, qkv_bias=False), {}),
    "vit-visual-only": (MODELS["vit"][0], {"num_kv": 0}),
    "vit-dropout": (MODELS["vit"][0], {"dropout": 0.4}),
    "swin-dropout": (MODELS["swin"][0], {"dropout": 0.4}),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def made(
    kind: str, beside: str, method: str = "e2vpt", dtype: torch.dtype = torch.float64, **config: Any
) -> nn.Module:
    """An adapted model, what is tuned at random values; the same ones whatever is beside."""
    make, options = KINDS[kind]
    prompts = PromptConfig(**({"num_visual": 3, "num_kv": 2} | options | config))
    torch.manual_seed(0)
    model = e2vpt.adapt(make(dtype), method, prompts, MethodConfig(beside=beside)).to(dtype)
    with torch.no_grad():
        for name, parameter in tuned(model).items():
            noise = torch.Generator().manual_seed(sum(name.encode()))
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=noise, dtype=torch.float64).to(dtype))
    return model


def multiplied(twin: nn.Module, model: nn.Module, images: Tensor) -> Tensor:
    """Logits of a twin without scales, its weights those of `model` times the scales: the oracle."""
    parameters = dict(model.named_parameters())
    for name in [name for name in parameters if name.endswith(".scale")]:
        weight = name.removesuffix("scale") + "weight"
        parameters[weight] = parameters[weight] * parameters.pop(name).unsqueeze(1)
    logits: Tensor = functional_call(twin, parameters, (images,))
    return logits


@each_kind
def test_logits_and_gradients_are_those_of_multiplied_weights(kind: str) -> None:
    model, twin = made(kind, "scale"), made(kind, "bias")
    images, parameters = images_for(model), tuned(model)
    for mode in ("train", "eval", "checkpointing"):
        model.train(mode != "eval"), twin.train(mode != "eval")
        if mode == "checkpointing":  # the twin's parameters are there only while it computes
            model.set_grad_checkpointing()
        torch.manual_seed(4)
        found = model(images)
        torch.manual_seed(4)
        expected = multiplied(twin, model, images)
        assert relative(found, expected) < EXACT
        ours, theirs = (
            torch.autograd.grad(logits.square().sum(), list(parameters.values()))
            for logits in (found, expected)
        )
        scale = max(float(gradient.abs().max()) for gradient in theirs)
        for name, one, other in zip(parameters, ours, theirs, strict=True):
            assert float((one - other).abs().max()) < EXACT * scale, name
        assert any(name.endswith(".scale") for name in parameters)
    with torch.no_grad():
        model.eval(), twin.eval()
        assert relative(model(images), multiplied(twin, model, images)) < EXACT


@pytest.mark.parametrize("method", ["e2vpt", "bias", "linear", "lora", "ia3", "adapter", "mlp"])
@pytest.mark.parametrize("kind", ["vit", "swin"])
def test_scales_start_where_the_backbone_is(kind: str, method: str) -> None:
    prompts = PromptConfig(num_visual=2, num_kv=2)
    models = []
    for beside in ("scale", "bias"):
        torch.manual_seed(0)
        models.append(e2vpt.adapt(KINDS[kind][0](), method, prompts, MethodConfig(beside=beside)).double())
    model, twin = models
    images = images_for(model)
    assert relative(model(images), twin(images)) < 1e-12
    linears = [m for m in model.modules() if isinstance(m, nn.Linear)]
    scaled = {id(m) for m in linears if isinstance(m, TunedLinear)}
    assert {id(m) for m in linears if not m.weight.requires_grad} == scaled
    names = {n.replace(".base_layer", "") for n, m in model.named_modules() if id(m) in scaled}
    kinds = {"qkv", "proj", "fc1", "fc2"} | ({"reduction"} if kind == "swin" else set())
    assert {name.split(".")[-1] for name in names} == kinds
    plain = {name for name in KINDS[kind][0]().state_dict() if not name.startswith("head")}
    assert method in ("lora", "ia3", "adapter") or plain <= set(model.state_dict())
    norms = [m for m in model.modules() if isinstance(m, nn.LayerNorm)]
    assert not any(m.weight.requires_grad for m in norms) and all(m.bias.requires_grad for m in norms)


def test_nothing_to_scale_is_refused() -> None:
    with pytest.raises(ConfigError, match="leaves no linear layer frozen"):
        e2vpt.adapt(KINDS["vit"][0](), "full", options=MethodConfig(beside="scale"))


@pytest.mark.parametrize("method", ["e2vpt", "bias", "lora"])
@each_kind
def test_folded_multiplies_once(kind: str, method: str) -> None:
    model = made(kind, "scale", method).eval()
    images, linears = images_for(model), [m for m in model.modules() if isinstance(m, TunedLinear)]
    expected = model(images)
    with e2vpt.folded(model):
        assert all(torch.equal(m.stored[0], m.weight * m.scale.unsqueeze(1)) for m in linears)
        assert not any(m.stored[0].requires_grad for m in linears)
        for context in (torch.inference_mode, torch.no_grad, torch.enable_grad):
            with context():
                assert relative(model(images), expected) < EXACT
        with torch.no_grad():
            for linear in linears:
                linear.scale.mul_(2)
        assert relative(model(images), expected) < EXACT
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert relative(twin(images), expected) > 1e-2
        with pytest.raises(ConfigError, match="only predicts"):
            model.train()(images)
        model.eval()
    assert not any(m.stored for m in linears)
    assert relative(model(images), expected) > 1e-2


@pytest.mark.parametrize("kind", ["vit", "swin"])
def test_under_autocast_scales_are_rounded_as_weights_are(kind: str) -> None:
    model = made(kind, "scale", dtype=torch.float32)
    images = images_for(model)
    linear = next(m for m in model.modules() if isinstance(m, TunedLinear))
    expected = model(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(torch.ones(1, linear.in_features)).dtype == torch.bfloat16
        assert relative(model(images), expected) < 0.1
        with torch.no_grad():
            assert relative(model(images), expected) < 0.1


def with_lora(model: nn.Module) -> Any:
    peft = pytest.importorskip("peft")
    return peft.inject_adapter_in_model(peft.LoraConfig(target_modules=["qkv"]), model)


def test_peft_around_a_scaled_layer_keeps_its_scales() -> None:
    model = made("vit", "scale")
    images, expected = images_for(model), made("vit", "scale")(images_for(model))
    assert relative(with_lora(model).double()(images), expected) < 1e-12


def with_key_biases(model: nn.Module) -> tuple[nn.Module, dict[str, Tensor]]:
    """The same model with all biases of its projections, those of the keys at random: the oracle."""
    twin, parameters = copy.deepcopy(model), dict(model.named_parameters())
    for name, module in list(twin.named_modules()):
        if isinstance(module, TunedLinear) and not module.has_key_bias:
            module.has_key_bias = True
            queries, values = parameters[f"{name}.bias"].chunk(2)
            parameters[f"{name}.bias"] = torch.cat([queries, torch.randn_like(queries), values])
    return twin, parameters


@pytest.mark.parametrize("beside", ["bias", "gamma", "scale"])
@pytest.mark.parametrize("kind", ["vit", "vit-shallow", "swin", "swin-shallow-pooled", "kv-apart"])
def test_biases_of_keys_are_left_out_where_no_softmax_sees_them(kind: str, beside: str) -> None:
    apart = {"attention": "gated", "num_visual": 0, "share_kv": False}
    model = made("vit", beside, **apart) if kind == "kv-apart" else made(kind, beside, num_kv=0)
    model.train()
    qkvs = [m for name, m in model.named_modules() if name.endswith("attn.qkv")]
    assert [m.bias.numel() * 3 for m in qkvs] == [m.out_features * 2 for m in qkvs]
    images, parameters = images_for(model), tuned(model)
    twin, with_keys = with_key_biases(model)
    found, expected = model(images), functional_call(twin, with_keys, (images,))
    assert relative(found, expected) < EXACT
    ours, theirs = (
        torch.autograd.grad(logits.square().sum(), list(parameters.values())) for logits in (found, expected)
    )
    scale = max(float(gradient.abs().max()) for gradient in theirs)
    assert max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True)) < EXACT * scale
    with torch.no_grad():
        assert relative(model.eval()(images), expected) < EXACT
        with e2vpt.folded(model):
            assert relative(model(images), expected) < EXACT


def test_biases_of_keys_stay_where_they_have_an_effect() -> None:
    """Beside key-value prompts, before a norm of keys, and in the method that is named after them."""
    makers = {
        "kv": ("vit", "e2vpt", 2),
        "gated": ("vit-gated", "e2vpt", 2),
        "norm": ("vit-avg", "e2vpt", 0),
        "peer": ("vit", "bias", 0),
    }
    for kind, method, num_kv in makers.values():
        prompts = PromptConfig(num_visual=2, num_kv=num_kv, **KINDS[kind][1])
        beside = "none" if method == "bias" else "bias"
        model = e2vpt.adapt(KINDS[kind][0](), method, prompts, MethodConfig(beside=beside))
        assert all(block.attn.qkv.bias.shape == (144,) for block in model.blocks)
        assert all(block.attn.qkv.bias.requires_grad for block in model.blocks)
    some = PromptConfig(num_visual=2, num_kv=(0, 3, 0))
    model = e2vpt.adapt(KINDS["vit"][0](), "e2vpt", some, MethodConfig(beside="bias"))
    assert [len(block.attn.qkv.bias) for block in model.blocks] == [96, 144, 96]
