"""A bundle is used as an adapter file is, without the backbone's weights; damaged ones are refused."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from random import Random

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from support.adapter_files import edited, with_tensors
from support.adapter_mutations import DAMAGE, LIES
from support.backbones_for_tests import tuned

import e2vpt
from e2vpt.backbones import load as backbones
from e2vpt.config import MethodConfig, PromptConfig
from e2vpt.errors import (
    AdapterError,
    AdapterFormatError,
    ConfigError,
    E2VPTError,
    ExportError,
    RunError,
    WeightsError,
)
from e2vpt.export.bundle import export_bundle
from e2vpt.export.task import export_task
from e2vpt.files.container import read_container

pytestmark = pytest.mark.usefixtures("one_thread")
PICTURES = [np.full((40, 50, 3), shade, dtype=np.uint8) for shade in (20, 90, 200)]


def adapter(path: Path, method: str = "e2vpt", size: int = 32) -> Path:
    """Of the demo backbone, with random values."""
    model = e2vpt.load_backbone("demo", num_classes=3, image_size=size)
    e2vpt.adapt(model, method, PromptConfig(num_visual=2, num_kv=1), MethodConfig())
    with torch.no_grad():
        for parameter in tuned(model).values():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    e2vpt.save_adapter(model, path, classes=["cat", "dog", "fox"])
    return path


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    return export_bundle(adapter(folder / "adapter.safetensors"), folder / "bundle.safetensors").path


@pytest.mark.parametrize(("method", "size"), [("e2vpt", 32), ("e2vpt", 48), ("full", 32), ("lora", 32)])
def test_a_bundle_predicts_without_the_backbones_weights(
    method: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = adapter(tmp_path / "a.safetensors", method, size)
    alone = e2vpt.load(path, device="cpu")
    made = export_bundle(path, tmp_path / "bundle.safetensors")
    assert made.difference == 0
    assert made.bytes == made.path.stat().st_size
    monkeypatch.setattr(backbones, "DEMO_WEIGHTS", tmp_path / "not here")
    with pytest.raises(WeightsError):
        e2vpt.load(path)
    found = e2vpt.load(made.path, device="cpu")
    assert found.predict(PICTURES, topk=3) == alone.predict(PICTURES, topk=3)
    assert np.array_equal(found.embed(PICTURES), alone.embed(PICTURES))


def test_the_given_backbones_own_weights_go_in(tmp_path: Path) -> None:
    def backbone() -> torch.nn.Module:
        torch.manual_seed(3)
        made: torch.nn.Module = timm.create_model("test_vit", num_classes=3, img_size=32)
        return made

    model = e2vpt.prompt(backbone(), PromptConfig(num_visual=2, num_kv=0))
    e2vpt.save_adapter(model, tmp_path / "a.safetensors", classes=["cat", "dog", "fox"])
    alone = e2vpt.load(tmp_path / "a.safetensors", backbone(), device="cpu")
    made = export_bundle(tmp_path / "a.safetensors", tmp_path / "bundle.safetensors", backbone())
    assert e2vpt.load(made.path, device="cpu").predict(PICTURES) == alone.predict(PICTURES)


def test_no_format_writes_over_the_adapter(tmp_path: Path) -> None:
    path = adapter(tmp_path / "a.safetensors")
    before = path.read_bytes()
    task = e2vpt.load(path, device="cpu")
    for write in (partial(export_bundle, path), partial(export_task, task, form="torch-export")):
        with pytest.raises(RunError, match=r"a\.safetensors: it is read for this"):
            write(path)
    assert path.read_bytes() == before


def test_it_says_what_the_adapter_says(bundle: Path) -> None:
    info, alone = (
        e2vpt.read_adapter(bundle.with_name(f"{name}.safetensors")) for name in ("bundle", "adapter")
    )
    assert info.bundled and not alone.bundled
    assert (info.classes, info.preprocessing, info.num_tuned) == (
        alone.classes,
        alone.preprocessing,
        alone.num_tuned,
    )
    assert info.bytes == bundle.stat().st_size


def test_the_same_bundle_has_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    again = export_bundle(bundle.with_name("adapter.safetensors"), tmp_path / "again.safetensors")
    assert again.path.read_bytes() == bundle.read_bytes()


def test_a_bundle_is_a_task_of_many(bundle: Path) -> None:
    tasks = e2vpt.MultiTask(e2vpt.load_backbone("demo", num_classes=0))
    tasks.load("pets", bundle)
    images = torch.randn(2, 3, 32, 32)
    expected = e2vpt.load(bundle, device="cpu").model(images).detach()
    torch.testing.assert_close(torch.stack(tasks(images, ["pets"] * 2)), expected, atol=1e-5, rtol=1e-5)


def test_given_weights_come_before_its_own(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no weights file"):
        e2vpt.load(bundle, weights=tmp_path / "none.safetensors")


def test_what_does_not_fit_is_refused(bundle: Path, tmp_path: Path) -> None:
    _, tensors, _ = read_container(bundle)
    norm = "backbone.norm.weight"
    own = {n: t for n, t in tensors.items() if n.startswith("backbone.") and ".head." not in n}
    numbers = sum(tensor.numel() for tensor in own.values())
    broken = tmp_path / "broken.safetensors"
    for changes, said in (
        ({norm: tensors[norm] + 1}, "has other weights"),
        ({norm: tensors[norm] / 0}, "not finite: norm.weight"),
        ({norm: torch.ones(200)}, "of another shape: norm.weight"),
        ({"backbone.more": torch.ones(1)}, "left over: more"),
        (dict.fromkeys(own), f"lacks {numbers - 129} of the numbers"),  # The empty head is left.
        ({"code.x": torch.ones(1)}, "belongs neither"),
        ({"adapter.head.bias": None}, "missing .'head.bias'"),
    ):
        with pytest.raises((AdapterError, WeightsError), match=said):
            e2vpt.load(with_tensors(bundle, broken, changes))


def test_a_small_file_does_not_make_a_large_model(bundle: Path, tmp_path: Path) -> None:
    huge = edited(bundle, tmp_path / "huge.safetensors", {"bundle.backbone": "vit_large_patch16_224"})
    with pytest.raises(E2VPTError, match=r"lacks 30\d{7} of the numbers of its backbone vit_large"):
        e2vpt.load(huge)
    with pytest.raises(AdapterFormatError, match="are expected"):
        e2vpt.load(edited(bundle, tmp_path / "hub.safetensors", {"bundle.backbone": "hf-hub:someone/model"}))


@pytest.mark.parametrize("settings", [{}, {"global_pool": "avg"}])
def test_a_hub_models_settings_are_those_of_its_architecture_or_it_is_refused(
    settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    snapshot = tmp_path / "hub/models--me--mine/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text("abc")
    config = {
        "architecture": "test_vit",
        "model_args": settings,
        "pretrained_cfg": {"input_size": [3, 160, 160]},
    }
    (snapshot / "config.json").write_text(json.dumps(config))
    save_file(timm.create_model("test_vit", **settings).state_dict(), snapshot / "model.safetensors")
    path, out = tmp_path / "adapter.safetensors", tmp_path / "bundle.safetensors"
    model = e2vpt.adapt(e2vpt.load_backbone("hf-hub:me/mine", num_classes=3), "linear")
    e2vpt.save_adapter(model, path)
    if settings:
        with pytest.raises(ExportError, match="was not written, as it could not be loaded again"):
            export_bundle(path, out, "hf-hub:me/mine")
        assert not out.exists()
        return
    export_bundle(path, out, "hf-hub:me/mine")
    shutil.rmtree(tmp_path / "hub")
    found = e2vpt.load(out, device="cpu").model
    assert torch.equal(found(torch.ones(1, 3, 160, 160)), model.eval()(torch.ones(1, 3, 160, 160)))


def test_mutated_bundles_raise_the_documented_errors(bundle: Path, tmp_path: Path) -> None:
    content, mutated, outcomes = bundle.read_bytes(), tmp_path / "mutated", set()
    for seed in range(60):
        mutate = Random(seed).choice(LIES if seed % 3 else DAMAGE)
        mutated.write_bytes(mutate(content, Random(seed)))
        try:
            e2vpt.load(mutated, device="cpu")
        except (AdapterError, WeightsError) as error:
            outcomes.add(type(error).__name__)
    assert outcomes == {"AdapterFormatError", "BackboneMismatch", "WeightsError"}


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_damage_is_found(share: float, bundle: Path, tmp_path: Path) -> None:
    content, broken = bundle.read_bytes(), tmp_path / "broken.safetensors"
    place = int(share * len(content))
    broken.write_bytes(content[:place])
    with pytest.raises(AdapterFormatError):
        e2vpt.load(broken)
    broken.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(AdapterFormatError):
        e2vpt.load(broken)


def test_a_bundle_that_computes_something_else_is_not_kept(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = bundle.with_name("adapter.safetensors"), tmp_path / "out.safetensors"
    with pytest.raises(ConfigError, match="holds its backbone already"):
        export_bundle(bundle, out)
    monkeypatch.setattr("e2vpt.export.checked.TOLERANCE", -1.0)
    with pytest.raises(ExportError, match="was not written"):
        export_bundle(source, out)
    assert not list(tmp_path.iterdir())
