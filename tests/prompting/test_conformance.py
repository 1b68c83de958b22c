"""The official implementation's logits and gradients (../shared/conformance/README.md), float64, to 1e-9."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.backbones_for_tests import relative
from support.conformance import NAMES, Case

import e2vpt

pytestmark = [pytest.mark.shared, pytest.mark.usefixtures("one_thread")]
TOLERANCE = 1e-9


@pytest.fixture(scope="module")
def cases(shared: Path) -> dict[str, Case]:
    return {name: Case(shared / "conformance" / f"{name}.npz") for name in NAMES}


def test_every_file_is_tested(shared: Path) -> None:
    assert sorted(NAMES) == sorted(path.stem for path in (shared / "conformance").glob("*.npz"))


@pytest.mark.parametrize("mode", ["train", "eval", "checkpointing"])
@pytest.mark.parametrize("name", NAMES)
def test_logits_and_every_gradient_agree(cases: dict[str, Case], name: str, mode: str) -> None:
    case = cases[name]
    case.model.train(mode != "eval").set_grad_checkpointing(mode == "checkpointing")
    assert {n: d for n, d in case.differences().items() if not d < TOLERANCE} == {}


@pytest.mark.parametrize("name", NAMES)
def test_logits_agree_without_gradients_folded_or_not(cases: dict[str, Case], name: str) -> None:
    case = cases[name]
    case.model.eval()
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            assert relative(case.model(case.expected["images"]), case.expected["logits"]) < TOLERANCE
            with e2vpt.folded(case.model):
                for _ in range(2):
                    found = case.model(case.expected["images"])
                    assert relative(found, case.expected["logits"]) < TOLERANCE
