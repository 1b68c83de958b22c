"""The shipped backbone."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest

from e2vpt.backbones.demo import DEMO_ARCHITECTURE, DEMO_WEIGHTS
from e2vpt.backbones.fingerprint import fingerprint
from e2vpt.backbones.load import load_backbone

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty hub cache and no requests."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def test_demo_architecture_is_what_was_trained() -> None:
    from scripts.demo_backbone.training import ARCHITECTURE

    assert ARCHITECTURE == {**DEMO_ARCHITECTURE, "num_classes": 0}


def test_shipped_demo_backbone_loads() -> None:
    if not DEMO_WEIGHTS.is_file():
        pytest.skip("the demo backbone is not trained yet")
    model = load_backbone("demo", num_classes=10)
    assert len(fingerprint(model)) == 64
