"""Every method: what it tunes, where it starts, and that it trains, saves and loads like any other."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from support.adapter_files import PREPROCESSING, edited, with_tensors
from support.backbones_for_tests import (
    GROUPED,
    images_for,
    relative,
    tiny_beit,
    tiny_eva,
    tiny_swin,
    tiny_swin_v2,
    tiny_vit,
)
from support.tasks_for_tests import write_task
from torch import nn
from torch.nn import functional as F

import e2vpt
from e2vpt import PromptConfig, PruneConfig, RunConfig, TrainConfig
from e2vpt.adapters.files import load_adapter, read_adapter, save_adapter
from e2vpt.backbones.fingerprint import fingerprint
from e2vpt.config import MethodConfig
from e2vpt.errors import AdapterFormatError, BackboneMismatch, ConfigError
from e2vpt.methods.adapt import adapt, adapted_as, original_fingerprint
from e2vpt.methods.names import METHODS
from e2vpt.prompting.parts import classifier, find_prompts, tuned_parameters
from e2vpt.pruning.applying import num_kept
from e2vpt.pruning.rewinding import rewind, snapshot
from e2vpt.pruning.scores import Scores
from e2vpt.pruning.selection import select
from e2vpt.runs.recipe import train_and_prune
from e2vpt.runs.reporting import Reporting
from e2vpt.runs.run import train_run

pytestmark = pytest.mark.usefixtures("one_thread")

BACKBONES: dict[str, Any] = {
    "vit": tiny_vit,
    "swin": tiny_swin,
    "beit": tiny_beit,
    "swin-v2": tiny_swin_v2,
    "eva": tiny_eva,
    "eva-grouped": lambda dtype=torch.float64: tiny_eva(dtype, **GROUPED),
}
PROMPTS = PromptConfig(num_visual=4, num_kv=3)
OPTIONS = MethodConfig(adapter_width=5, lora_rank=2)
both_backbones = pytest.mark.parametrize("kind", BACKBONES)
every_method = pytest.mark.parametrize("method", METHODS)


def made(kind: str, method: str, options: MethodConfig = OPTIONS, dtype: torch.dtype = torch.float64) -> Any:
    torch.manual_seed(0)
    return adapt(BACKBONES[kind](dtype), method, PROMPTS, options).to(dtype)


def moved(model: nn.Module, seed: int = 1) -> nn.Module:
    """Everything tuned at random values, as after a training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(0.05 * noise.to(parameter))
    return model


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in tuned_parameters(model).values())


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


@both_backbones
@every_method
def test_saved_and_loaded_to_the_bit(kind: str, method: str, tmp_path: Path) -> None:
    model = moved(made(kind, method, dtype=torch.float32)).eval()
    path = tmp_path / "task.safetensors"
    save_adapter(model, path, preprocessing=PREPROCESSING)
    loaded, info = load_adapter(path, BACKBONES[kind](torch.float32))
    images = images_for(model)
    assert torch.equal(loaded(images), model(images))
    beside = "scale" if method == "e2vpt" else "none"
    assert (info.method, info.options) == (method, dataclasses.replace(OPTIONS, beside=beside))
    assert info.num_tuned == count(model) + (num_kept(model) if find_prompts(model) else 0)
    assert info.num_head == sum(p.numel() for p in classifier(model).parameters())
    # Saved again, it is the same file: also where the backbone's own weights have changed.
    save_adapter(loaded, tmp_path / "again.safetensors", preprocessing=PREPROCESSING)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        moved(twin, seed=3)
        assert not torch.equal(twin(images), model(images))
        assert torch.equal(loaded(images), model(images))


@both_backbones
@pytest.mark.parametrize("beside", ["norm", "gamma", "scale"])
def test_what_is_tuned_beside_is_saved_and_loaded_to_the_bit(kind: str, beside: str, tmp_path: Path) -> None:
    model = moved(made(kind, "e2vpt", MethodConfig(beside=beside), torch.float32)).eval()
    path, images = tmp_path / "task.safetensors", images_for(model)
    save_adapter(model, path, preprocessing=PREPROCESSING)
    loaded, info = load_adapter(path, BACKBONES[kind](torch.float32))
    assert torch.equal(loaded(images), model(images))
    assert info.options.beside == beside and info.num_tuned == count(model) + num_kept(model)
    save_adapter(loaded, tmp_path / "again.safetensors", preprocessing=PREPROCESSING)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    other = edited(path, tmp_path / "other.safetensors", {"options": {"beside": "bias"}})
    with pytest.raises(BackboneMismatch, match="was made by method e2vpt"):
        load_adapter(other, BACKBONES[kind](torch.float32))


def test_the_fingerprint_is_that_of_the_untouched_backbone(tmp_path: Path) -> None:
    model = moved(made("vit", "full", dtype=torch.float32))
    assert fingerprint(model) != fingerprint(tiny_vit(torch.float32)) == adapted_as(model).fingerprint
    save_adapter(model, tmp_path / "full.safetensors", preprocessing=PREPROCESSING)
    with pytest.raises(BackboneMismatch, match="has other weights"):
        load_adapter(tmp_path / "full.safetensors", moved(tiny_vit(torch.float32), seed=9))


def test_tensors_that_the_method_does_not_tune_are_refused(tmp_path: Path) -> None:
    path, other = tmp_path / "bias.safetensors", tmp_path / "other.safetensors"
    save_adapter(made("vit", "bias", dtype=torch.float32), path, preprocessing=PREPROCESSING)
    name = "tuned.blocks.0.mlp.fc1.bias"
    for changes, message in (
        ({name: torch.zeros(5)}, r"its blocks.0.mlp.fc1.bias has shape \(5,\), this backbone needs \(96,\)"),
        ({name: None}, r"has shape None, this backbone needs \(96,\)"),
        (
            {"tuned.blocks.0.mlp.fc1.weight": torch.zeros(2, 2)},
            r"has shape \(2, 2\), this backbone needs None",
        ),
    ):
        with pytest.raises(BackboneMismatch, match=message):
            load_adapter(with_tensors(path, other, changes), tiny_vit(torch.float32))
    for changes, message in (
        ({"tuned...": torch.zeros(1)}, "unknown"),
        ({name: torch.full((96,), torch.nan)}, "not finite"),
        ({name: torch.zeros(96, dtype=torch.float16)}, "float16"),
    ):
        with pytest.raises(AdapterFormatError, match=message):
            read_adapter(with_tensors(path, other, changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "magic"}, "method is 'magic'; expected one of e2vpt"),
        ({"options": {"lora_rank": 10**6}}, "lora_rank is 1000000; the most is 256"),
        ({"options": {"rank": 1}}, "MethodConfig has no field 'rank'"),
    ],
)
def test_a_header_of_an_unknown_method(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    save_adapter(
        made("vit", "bias", dtype=torch.float32), tmp_path / "bias.safetensors", preprocessing=PREPROCESSING
    )
    with pytest.raises(AdapterFormatError, match=message):
        read_adapter(edited(tmp_path / "bias.safetensors", tmp_path / "x.safetensors", changes))


def test_an_adapter_of_another_method_s_tensors(tmp_path: Path) -> None:
    save_adapter(
        made("vit", "bias", dtype=torch.float32), tmp_path / "bias.safetensors", preprocessing=PREPROCESSING
    )
    relabelled = edited(tmp_path / "bias.safetensors", tmp_path / "x.safetensors", {"method": "layernorm"})
    with pytest.raises(BackboneMismatch, match="was made by method layernorm"):
        load_adapter(relabelled, tiny_vit(torch.float32))


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


@pytest.mark.parametrize("beside", ["bias", "scale"])
def test_rewinding_brings_back_what_is_tuned_beside(beside: str) -> None:
    model = made("vit", "e2vpt", MethodConfig(beside=beside))
    origin = snapshot(model)
    moved(model)
    moved_biases = {name: p.detach().clone() for name, p in tuned_parameters(model).items()}
    scores = Scores(
        tokens=(torch.arange(4.0),) * 3,
        segments=(torch.ones(4, 1),) * 3,
        key_value=(torch.zeros(3),) * 3,
        shared=False,
        layout="strided",
    )
    rewind(model, origin, select(scores, tokens=0.5, segments=1.0))
    for name, parameter in tuned_parameters(model).items():
        assert torch.equal(parameter, origin.beside[name]) and not torch.equal(parameter, moved_biases[name])
    assert {layer.num_visual for layer in find_prompts(model)} == {2}


@every_method
def test_it_trains_in_a_run_like_any_other(method: str, tmp_path: Path) -> None:
    task = e2vpt.load_task(write_task(tmp_path / "shapes"))
    config = RunConfig(
        backbone="demo",
        method=method,
        prompts=PROMPTS,
        options=OPTIONS,
        train=TrainConfig(epochs=2, batch_size=9),
    )
    done = train_run(task, config, tmp_path / "run")
    assert len(done.result.history) == 2
    loaded, info = load_adapter(done.adapter)
    assert info.method == method and info.classes == task.classes
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(images), done.model(images))

    def stop(_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(task, config, tmp_path / "broken", reporting=Reporting(on_epoch=stop))
    train_run(task, config, tmp_path / "broken", resume=True)
    assert (tmp_path / "broken/adapter.safetensors").read_bytes() == done.adapter.read_bytes()


@pytest.mark.parametrize("beside", ["bias", "scale"])
def test_prompts_and_what_is_beside_are_pruned(beside: str, tmp_path: Path) -> None:
    task = e2vpt.load_task(write_task(tmp_path / "shapes"))
    config = RunConfig(
        backbone="demo",
        prompts=PROMPTS,
        options=MethodConfig(beside=beside),
        train=TrainConfig(epochs=1, batch_size=9),
    )
    pruned = train_and_prune(task, config, PruneConfig(num_segments=4, tolerance=1.0), tmp_path / "run")
    loaded, info = load_adapter(pruned.trained.adapter)
    assert info.visual_kept <= 0.5 and info.options.beside == beside
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(images), pruned.trained.model(images))


@pytest.mark.parametrize("method", ["e2vpt", "bias", "lora"])
def test_a_backbone_is_hashed_once_where_it_is_loaded(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, path = made("vit", method, dtype=torch.float32), tmp_path / "task.safetensors"
    hashed: list[nn.Module] = []
    for module in (e2vpt.methods.adapt, e2vpt.adapters.files):
        monkeypatch.setattr(module, "fingerprint", lambda m: hashed.append(m) or fingerprint(m))
    known = original_fingerprint(model)
    hashed.clear()
    save_adapter(model, path, preprocessing=PREPROCESSING, backbone_fingerprint=known)
    assert hashed == []
    load_adapter(path, tiny_vit(torch.float32))
    assert len(hashed) == 1
