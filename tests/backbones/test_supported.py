"""The table of supported architectures is what building them gives."""

from __future__ import annotations

import pytest
import timm

from e2vpt.backbones.families import pretrained_cfg
from e2vpt.backbones.load import planned_backbone
from e2vpt.backbones.presets import PRESETS
from e2vpt.backbones.supported import START, matching, near_names, supported_architectures, where_to_start
from e2vpt.errors import BackboneError

NAMES = [each.name for each in supported_architectures()]


@pytest.mark.parametrize("name", NAMES[:: len(NAMES) // 6])
def test_rows_are_what_is_built(name: str) -> None:
    (row,) = [each for each in supported_architectures() if each.name == name]
    model = planned_backbone(name, num_classes=0)
    assert row.parameters == sum(p.numel() for p in model.parameters())
    assert row.image_size == pretrained_cfg(model)["input_size"][1:]


def test_what_is_not_in_the_table_is_refused() -> None:
    missing = [name for name in timm.list_models("*vit*") if name not in NAMES]
    for name in missing[:: len(missing) // 6]:
        with pytest.raises(BackboneError):
            planned_backbone(name, num_classes=0)


def test_tags_and_licences() -> None:
    (found,) = matching(["VIT_SMALL_PATCH14_DINOV2"])
    assert dict(found.tags) == {"lvd142m": "apache-2.0"} and found.image_size == (518, 518)
    (tiny,) = [each for each in matching(["tiny", "augreg_in21k_ft", "_224"]) if "_r_" not in each.name]
    assert tiny.name == "vit_tiny_patch16_224" and [tag for tag, _ in tiny.tags] == ["augreg_in21k_ft_in1k"]
    assert matching([]) == list(supported_architectures()) and not matching(["convnext"])


@pytest.mark.parametrize("name", ["vit_bas_patch16_224", "resnet50", "convnext_base", "vit_base_patch16_clp"])
def test_near_names_are_supported_ones(name: str) -> None:
    assert set(near_names(name)) <= {*NAMES, *PRESETS}


def test_near_names_of_a_known_architecture_are_its_tags() -> None:
    assert all(name.startswith("vit_tiny_patch16_224.") for name in near_names("vit_tiny_patch16_224.augreg"))


def test_where_to_start_names_three_by_size() -> None:
    text = where_to_start()
    assert [text.index(name) for name in START.values()] == sorted(map(text.index, START.values()))
    assert "22 million" in text and "86 million" in text and "303 million" in text
