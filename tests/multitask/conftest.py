"""Three tasks of one backbone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.backbones_for_tests import tiny_vit
from support.multitask_for_tests import adapter
from torch import nn


@pytest.fixture
def three(tmp_path: Path) -> tuple[nn.Module, dict[str, nn.Module], Path]:
    """The backbone, each task's model by its name, and the folder of their adapter files."""
    backbone = tiny_vit(torch.float32)
    options = [{"num_visual": 2}, {"num_visual": 5, "beside": "scale"}, {"method": "bias"}]
    models = {name: adapter(tmp_path / name, backbone, i, **options[i]) for i, name in enumerate("abc")}
    return backbone, models, tmp_path
