"""Values by row equal a backbone whose parameters were changed, image by image, to 1e-12 in float64."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from support.backbones_for_tests import images_for, named_backbone, relative, tiny_swin, tiny_vit
from torch import Tensor, nn
from torch.func import functional_call

from e2vpt.prompting.attention import TableByImage
from e2vpt.prompting.prompts import BlockPrompts
from e2vpt.prompting.rows import RowConv, RowLinear, RowNorm, applied, install_rows

pytestmark = pytest.mark.usefixtures("one_thread")

EXACT = 1e-12
BACKBONES: dict[str, Any] = {
    "vit": tiny_vit,
    "swin": tiny_swin,
    "map": lambda: named_backbone("siglip-map"),
    "qk-norm": lambda: named_backbone("qk-norm"),
    "no-bias": lambda: tiny_vit(qkv_bias=False),
}
each_backbone = pytest.mark.parametrize("kind", BACKBONES)


def headless(kind: str) -> nn.Module:
    backbone: Any = BACKBONES[kind]()
    backbone.reset_classifier(0)
    return backbone  # type: ignore[no-any-return]


def vectors(model: nn.Module) -> dict[str, Tensor]:
    """What may differ by row, but for scales."""
    kinds = (RowLinear, RowNorm, RowConv)
    owners = {path for path, module in model.named_modules() if isinstance(module, kinds)}
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.dim() == 1 and name.rpartition(".")[0] in owners
    }


@each_backbone
def test_without_values_it_is_the_backbone(kind: str) -> None:
    backbone = headless(kind)
    model = copy.deepcopy(backbone)
    rows = install_rows(model)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model.state_dict().keys() == backbone.state_dict().keys()
    images = images_for(backbone)
    with torch.no_grad():
        assert relative(model(images), backbone(images)) < EXACT
        with applied(rows, {}, {}):
            assert relative(model(images), backbone(images)) < EXACT


@each_backbone
@pytest.mark.parametrize("scaled", [False, True])
def test_every_row_has_its_own_values(kind: str, scaled: bool) -> None:
    backbone = headless(kind)
    model = copy.deepcopy(backbone)
    rows = install_rows(model)
    images, noise = images_for(backbone, 3), torch.Generator().manual_seed(0)
    values = {
        name: vector + 0.2 * torch.randn(3, len(vector), generator=noise, dtype=torch.float64)
        for name, vector in vectors(model).items()
    }
    scales = {
        f"{path}.scale": 1 + 0.2 * torch.randn(3, module.out_features, generator=noise, dtype=torch.float64)
        for path, module in model.named_modules()
        if isinstance(module, RowLinear) and scaled
    }
    with torch.no_grad(), applied(rows, values | scales, {}):
        found = model(images)
    parameters = dict(backbone.named_parameters())
    for index in range(3):
        own = {name: value[index] for name, value in values.items()}
        for name, scale in scales.items():
            weight = name.removesuffix("scale") + "weight"
            own[weight] = parameters[weight] * scale[index].unsqueeze(1)
        with torch.no_grad():
            expected = functional_call(backbone, own, (images[index : index + 1],))
        assert relative(found[index : index + 1], expected) < EXACT


@each_backbone
def test_tables_of_different_lengths(kind: str) -> None:
    backbone = headless(kind)
    model = copy.deepcopy(backbone)
    rows = install_rows(model)
    images, noise = images_for(backbone, 3), torch.Generator().manual_seed(0)
    lengths = torch.tensor([0, 2, 3])
    exists = torch.arange(3) < lengths.unsqueeze(1)
    tables = {}
    for index, attention in enumerate(rows.attentions):
        head_dim = attention.qkv.out_features // 3 // attention.num_heads
        shape = (3, 3, 2, attention.num_heads, head_dim)
        table = torch.randn(shape, generator=noise, dtype=torch.float64)
        # What lies where a row does not exist must not matter.
        tables[index] = TableByImage(
            table=table.masked_fill(~exists[:, :, None, None, None], 1e3), exists=exists
        )
    with torch.no_grad(), applied(rows, {}, tables):
        found = model(images)
    for image, length in enumerate(lengths.tolist()):
        alone = {i: TableByImage(table=t.table[image, :length], exists=None) for i, t in tables.items()}
        with torch.no_grad(), applied(rows, {}, alone if length else {}):
            expected = model(images[image : image + 1])
        assert relative(found[image : image + 1], expected) < EXACT
    assert all(attention.by_image is None for attention in rows.attentions)
    assert not any(isinstance(m, BlockPrompts) and m.num_visual for m in model.modules())
