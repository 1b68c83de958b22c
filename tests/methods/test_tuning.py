"""Methods without prompts, written out; what each tunes is tested in test_adapt."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.backbones_for_tests import images_for, relative
from support.methods_for_tests import made, moved
from torch import nn

from e2vpt.config import MethodConfig

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("kind", ["vit", "swin"])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_head_of_several_layers_is_the_formula(kind: str, layers: int) -> None:
    model: Any = moved(made(kind, "mlp", MethodConfig(mlp_layers=layers)))
    images = images_for(model)
    with torch.no_grad():
        tokens = model.forward_features(images)
        feature = tokens[:, 0] if kind == "vit" else tokens.mean(dim=(1, 2))
        hidden = [
            m for m in (model.head_drop if kind == "vit" else model.head.drop) if isinstance(m, nn.Linear)
        ]
        assert len(hidden) == layers - 1
        for layer in hidden:
            feature = feature @ layer.weight.T + layer.bias
            assert bool((feature < 0).any())
            feature = feature.clamp(min=0)
        last = model.head if kind == "vit" else model.head.fc
        assert relative(model(images), feature @ last.weight.T + last.bias) < 1e-12
