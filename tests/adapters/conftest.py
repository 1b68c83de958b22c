"""An adapter file, and where one goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.adapters_for_tests import model_of, save


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where an adapter file goes; nothing is there."""
    return tmp_path / "task.safetensors"


@pytest.fixture
def saved(path: Path) -> Path:
    """An adapter file there, of a ViT with separate keys and values."""
    save(model_of("vit", "separate"), path)
    return path
