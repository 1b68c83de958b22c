"""A service from adapters: whose backbone it takes, and what it says where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.serving_for_tests import make_adapter

import e2vpt
from e2vpt.adapters import choosing
from e2vpt.errors import AdapterFormatError, BackboneMismatch, ConfigError, RunError
from e2vpt.export.bundle import export_bundle
from e2vpt.files.container import read_container, write_container
from e2vpt.serving import start
from e2vpt.serving.refusals import Refused
from e2vpt.serving.start import named_adapter, open_service
from e2vpt.serving.store import Store


def test_a_bundle_brings_its_own_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter, bundle = make_adapter(tmp_path / "a.safetensors", 0), tmp_path / "bundle.safetensors"
    export_bundle(adapter, bundle)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = e2vpt.load(adapter).model(images)

    def never(*args: object, **options: object) -> None:
        raise AssertionError("a bundle needs no other weights")

    for module in (start, choosing):
        monkeypatch.setattr(module, "load_backbone", never)
    service, problems = open_service([("a", bundle)])
    assert not problems
    found = torch.stack(service._tasks(images, ["a", "a"]))
    assert torch.allclose(found.cpu(), expected, atol=1e-5)


def test_half_precision_answers_almost_the_same(tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "a.safetensors", 0)
    images = torch.randn(2, 3, 32, 32)
    exact, half = (
        torch.stack(open_service([("a", adapter)], precision=precision)[0]._tasks(images, ["a", "a"]))
        for precision in ("fp32", "bf16")
    )
    assert exact.dtype == torch.float32 and half.dtype == torch.bfloat16
    assert 0 < (exact - half).norm() / exact.norm() < 0.05
    with pytest.raises(ConfigError, match="device is 'gpu', which cannot be used here"):
        open_service([("a", adapter)], device="gpu")


def test_a_lost_file_of_the_store_keeps_no_other_task_from_answering(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    for name, seed in (("lost", 0), ("kept", 1)):
        adapter = make_adapter(tmp_path / f"{name}.safetensors", seed)
        store.assign(name, store.add(adapter.read_bytes()))
    store.paths["lost"].unlink()
    service, problems = open_service([], store=tmp_path / "store")
    assert len(problems) == 1 and problems[0].startswith("lost: ")
    assert service._tasks(torch.randn(1, 3, 32, 32), ["kept"])[0].isfinite().all()
    with pytest.raises(Refused, match=r"cannot be loaded") as refused:
        service.catalogue.load("lost")
    assert refused.value.status == 422
    store.paths["kept"].unlink()
    with pytest.raises(AdapterFormatError, match="No such file"):
        open_service([], store=tmp_path / "store")
    service, problems = open_service([], store=tmp_path / "store", backbone="demo")
    assert len(problems) == 2


def test_a_damaged_upload_is_not_hidden_by_an_older_version(tmp_path: Path) -> None:
    adapter, store = make_adapter(tmp_path / "pets.safetensors", 0), Store(tmp_path / "store")
    store.assign("pets", store.add(make_adapter(tmp_path / "newer.safetensors", 1).read_bytes()))
    store.paths["pets"].write_bytes(b"damaged")
    service, problems = open_service([("pets", adapter)], store=tmp_path / "store")
    assert len(problems) == 1 and service.catalogue.known["pets"].info is None
    assert service._tasks.names == ()
    service.catalogue.delete("pets")
    assert service.catalogue.known == {}


def test_without_a_backbone_there_is_no_service() -> None:
    with pytest.raises(ConfigError, match="Name it with --backbone"):
        open_service([])


def test_a_task_is_called_like_its_run_or_file_or_as_it_is_told(tmp_path: Path) -> None:
    path = make_adapter(tmp_path / "pets.safetensors", 0)
    run = tmp_path / "cars"
    run.mkdir()
    (run / "adapter.safetensors").write_bytes(path.read_bytes())
    assert named_adapter(str(path)) == ("pets", path)
    assert named_adapter(str(run)) == ("cars", run / "adapter.safetensors")
    assert named_adapter(f"birds={path}") == ("birds", path)
    with pytest.raises(RunError, match="does not exist"):
        named_adapter(str(tmp_path / "nothing"))


def test_a_file_does_not_choose_what_is_downloaded(tmp_path: Path) -> None:
    path = make_adapter(tmp_path / "a.safetensors", 0)
    header, tensors, _ = read_container(path)
    write_container(path, header | {"backbone": "hf-hub:somebody/model"}, tensors)
    with pytest.raises(BackboneMismatch, match="a file does not choose what is downloaded"):
        open_service([("a", path)])


def test_a_bundle_without_its_backbone_costs_no_memory(tmp_path: Path) -> None:
    adapter, bundle = make_adapter(tmp_path / "a.safetensors", 0), tmp_path / "bundle.safetensors"
    export_bundle(adapter, bundle)
    header, tensors, _ = read_container(bundle)
    left = {name: t for name, t in tensors.items() if not name.startswith("backbone.blocks")}
    write_container(bundle, header, left)
    with pytest.raises(AdapterFormatError, match="of the numbers of its backbone"):
        open_service([("a", bundle)])
