"""The side network and the blend of features, written out."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from support.backbones_for_tests import images_for, relative
from support.methods_for_tests import both_backbones, made, moved
from torch import Tensor
from torch.nn import functional as F

from e2vpt.methods.side import SideNetwork
from e2vpt.prompting.parts import classifier

pytestmark = pytest.mark.usefixtures("one_thread")


def written_out(side: SideNetwork, images: Tensor, feature: Tensor, blend: float) -> Tensor:
    x = images
    for index, stride, padding in ((0, 4, 3), (2, 2, 1), (4, 2, 1)):
        convolution: Any = side.layers[index]
        x = F.conv2d(x, convolution.weight, convolution.bias, stride=stride, padding=padding)
        x = x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    own = x.mean(dim=(2, 3)) @ side.project.weight.T + side.project.bias
    share = 1 / (1 + math.exp(-blend))
    return share * feature + (1 - share) * own


@torch.no_grad()
@pytest.mark.parametrize("blend", [-1.5, 0.0, 1.5])
def test_features_are_blended_as_the_formula_says(blend: float) -> None:
    torch.manual_seed(0)
    side = SideNetwork(width=6, channels=4).double()
    side.blend.fill_(blend)
    images, feature = torch.randn(2, 3, 32, 32).double(), torch.randn(2, 6).double()
    assert relative(side(images, feature), written_out(side, images, feature, blend)) < 1e-12


@torch.no_grad()
@both_backbones
def test_the_head_reads_the_blend(kind: str) -> None:
    model: Any = moved(made(kind, "sidetune"))
    model.side.blend.fill_(1.5)
    images = images_for(model)
    feature = model.forward_head(model.forward_features(images), pre_logits=True)
    head: Any = classifier(model)
    expected = written_out(model.side, images, feature, 1.5) @ head.weight.T + head.bias
    assert relative(model(images), expected) < 1e-12
