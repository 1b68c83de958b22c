"""Methods without prompts, written out; what each tunes is tested in test_adapt."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.backbones_for_tests import images_for, relative, tiny_eva, tiny_swin, tiny_vit
from support.methods_for_tests import PROMPTS, made, moved
from timm.layers import RmsNorm
from torch import nn

from e2vpt.config import MethodConfig
from e2vpt.errors import ConfigError
from e2vpt.methods.adapt import adapt

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


NORMS = [("layernorm", "none", "method is 'layernorm'"), ("e2vpt", "norm", "beside is 'norm'")]
NORMS += [("e2vpt", "gamma", "beside is 'gamma'"), ("linear", "norm", "beside is 'norm'")]


@pytest.mark.parametrize(("method", "beside", "asked"), NORMS)
@pytest.mark.parametrize("make", [tiny_vit, tiny_eva])
def test_norms_of_another_kind_are_not_taken_for_tuned(
    make: Any, method: str, beside: str, asked: str
) -> None:
    backbone = make(norm_layer=RmsNorm)
    with pytest.raises(ConfigError, match=f"{asked}, which tunes LayerNorms; .* but RmsNorm. Choose "):
        adapt(backbone, method, PROMPTS, MethodConfig(beside=beside))
    for other in ("none", "scale"):  # nothing was changed before
        model = adapt(make(norm_layer=RmsNorm), "e2vpt", PROMPTS, MethodConfig(beside=other))
        assert relative(model(images_for(model)), backbone(images_for(backbone))) > 1e-3
    assert adapt(backbone, "linear", PROMPTS) is backbone


def test_norms_without_parameters_are_none() -> None:
    def plain(width: int, **_: Any) -> nn.LayerNorm:
        return nn.LayerNorm(width, elementwise_affine=False)

    with pytest.raises(ConfigError, match="none with parameters, but no norm at all"):
        adapt(tiny_vit(norm_layer=plain), "layernorm")


@pytest.mark.parametrize("make", [tiny_vit, tiny_swin])
@pytest.mark.parametrize("method", ["mlp", "sidetune"])
def test_a_backbone_without_a_head_is_refused_where_one_is_needed(make: Any, method: str) -> None:
    backbone = make(num_classes=0)
    with pytest.raises(ConfigError, match=f"method is '{method}', which needs a linear head.*num_classes"):
        adapt(backbone, method)
    backbone.reset_classifier(4)
    assert adapt(backbone.double(), method)(images_for(backbone)).shape == (2, 4)
