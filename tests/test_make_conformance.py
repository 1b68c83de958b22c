"""The vectors of scripts/make_conformance.py: e2vpt agrees with them, and not with changed ones."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from support.backbones_for_tests import relative
from support.conformance import NAMES, Case

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "make_conformance.py"
TOLERANCE = 1e-9

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("make_conformance", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = sys.modules["make_conformance"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["make_conformance"]


@pytest.fixture(scope="module")
def made(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("conformance")
    script.main(folder)
    return folder


def test_every_case_is_made(made: Path) -> None:
    assert sorted(path.stem for path in made.glob("*.npz")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_logits_and_every_gradient_agree(made: Path, name: str) -> None:
    case = Case(made / f"{name}.npz")
    case.model.eval()
    found = case.differences()
    assert {n: d for n, d in found.items() if not d < TOLERANCE} == {}
    kinds = {name.split(".")[1] for name in found if name.startswith("grad.")}
    assert {"head", "visual_prompts", "token_mask", "segment_mask"} < kinds
    with torch.inference_mode():
        logits = case.model(case.expected["images"])
    assert relative(logits, case.expected["logits"]) < TOLERANCE


@pytest.mark.parametrize("name", ["visual_prompts", "key_value_prompts", "token_mask", "backbone.head.bias"])
def test_a_changed_vector_is_seen(made: Path, tmp_path: Path, name: str) -> None:
    arrays = dict(np.load(made / "vit_mixed.npz"))
    arrays[name] = arrays[name] * (1 + 1e-6)
    np.savez(tmp_path / "vit_mixed.npz", **arrays)
    assert max(Case(tmp_path / "vit_mixed.npz").differences().values()) > TOLERANCE


@pytest.mark.shared
@pytest.mark.parametrize("name", NAMES)
def test_the_described_computation_is_the_official_one(script: ModuleType, shared: Path, name: str) -> None:
    case = Case(shared / "conformance" / f"{name}.npz")
    given = case.expected
    backbone = script.swin() if case.is_swin else script.vit()
    weights = {k.removeprefix("backbone."): v for k, v in given.items() if k.startswith("backbone.")}
    backbone.double().eval().load_state_dict(weights)
    official = script.Setting(
        *(backbone, case.model.eval(), given["token_mask"], given["segment_mask"]),
        **{kind: given[kind] for kind in ("images", "labels")},
    )
    assert relative(script.official_logits(official), given["logits"]) < TOLERANCE
