"""Where prompts enter, and that everything not known to be safe is refused by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import timm
import torch
from support.backbones_for_tests import GROUPED, tiny_eva, tiny_swin, tiny_vit
from timm.models.vision_transformer import Attention, ParallelScalingBlock, ResPostBlock, VisionTransformer
from torch import nn

import e2vpt
from e2vpt.backbones.families import is_swin, is_vit
from e2vpt.errors import ConfigError, UnsupportedBackbone
from e2vpt.prompting.sites import find_sites, take_over

pytestmark = pytest.mark.usefixtures("one_thread")


def test_sites_of_a_vit() -> None:
    model = tiny_vit()
    sites = find_sites(model)
    assert [site.path for site in sites] == ["blocks.0", "blocks.1", "blocks.2"]
    assert all(site.block is model.get_submodule(site.path) for site in sites)
    assert all(site.attention is site.block.attn for site in sites)
    assert {(site.width, site.num_heads, site.head_dim) for site in sites} == {(48, 3, 16)}
    assert is_vit(model) and not is_swin(model)


def test_sites_of_a_swin_follow_its_stages() -> None:
    model = tiny_swin()
    found = [(site.path, site.width, site.num_heads, site.head_dim) for site in find_sites(model)]
    assert found == [
        ("layers.0.blocks.0", 16, 2, 8),
        ("layers.0.blocks.1", 16, 2, 8),
        ("layers.1.blocks.0", 32, 4, 8),
        ("layers.1.blocks.1", 32, 4, 8),
    ]
    assert is_swin(model) and not is_vit(model)


@pytest.mark.parametrize(("options", "heads"), [({}, 3), ({"qkv_fused": False}, 3), (GROUPED, 2)])
def test_sites_of_an_eva_have_heads_of_keys(options: dict[str, object], heads: int) -> None:
    model = tiny_eva(**options)
    sites = find_sites(model)
    assert [site.path for site in sites] == ["blocks.0", "blocks.1", "blocks.2"]
    width = 48 // model.blocks[0].attn.num_heads
    assert {(site.width, site.num_heads, site.head_dim) for site in sites} == {(48, heads, width)}
    assert not is_swin(model) and not is_vit(model)


def quiet(name: str, **options: object) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm's own
        return timm.create_model(name, pretrained=False, **options)


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("convnext_atto", {"depths": (1, 1, 1, 1)}, "ConvNeXt"),
        ("naflexvit_base_patch16_gap", {"depth": 1, "embed_dim": 48, "num_heads": 3}, "NaFlexVit"),
        ("hiera_tiny_224", {"stages": (1, 1, 1, 1)}, "Hiera"),
        ("deit_tiny_distilled_patch16_224", {"depth": 1}, "VisionTransformerDistilled"),
    ],
)
def test_other_architectures_are_refused_by_name(name: str, options: dict[str, object], kind: str) -> None:
    with pytest.raises(
        UnsupportedBackbone, match=rf"found {kind}.*\({name}\).*vit_base_patch16_224"
    ) as error:
        e2vpt.prompt(quiet(name, **options))
    assert "SwinTransformer" in str(error.value)


def test_a_subclass_is_refused() -> None:
    class Mine(VisionTransformer):
        pass

    model = Mine(img_size=32, patch_size=8, embed_dim=48, depth=1, num_heads=3)
    with pytest.raises(UnsupportedBackbone, match="found Mine"):
        e2vpt.prompt(model)
    with pytest.raises(UnsupportedBackbone, match="found Linear"):
        e2vpt.prompt(nn.Linear(2, 2))


class Lora(nn.Module):
    """Like PEFT's layers: the plain projection is inside, and would be read past the adapter."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base, self.a = base, nn.Linear(base.in_features, 2)
        self.weight, self.bias = base.weight, base.bias
        self.in_features, self.out_features = base.in_features, base.out_features


class MyAttention(Attention):
    pass


def replace_attention(model: nn.Module) -> None:
    model.blocks[1].attn = MyAttention(48, num_heads=3, qkv_bias=True)


def patch(module: nn.Module) -> None:
    module.forward = lambda x, *args, **kwargs: x


SURGERY: dict[str, tuple[Callable[[nn.Module], object], str]] = {
    "lora": (
        lambda m: setattr(m.blocks[1].attn, "qkv", Lora(m.blocks[1].attn.qkv)),
        r"blocks\.1\.attn\.qkv is a Lora, expected a plain Linear",
    ),
    "parametrized": (
        lambda m: nn.utils.parametrizations.weight_norm(m.blocks[0].attn.qkv),
        r"blocks\.0\.attn\.qkv is a ParametrizedLinear, expected a plain Linear",
    ),
    "subclass": (replace_attention, r"blocks\.1\.attn is a MyAttention, expected a plain Attention"),
    "unknown child": (
        lambda m: m.blocks[2].attn.add_module("rope", nn.Identity()),
        r"blocks\.2\.attn is a Attention, expected no child rope",
    ),
    "patched attention": (lambda m: patch(m.blocks[1].attn), r"forward of blocks\.1\.attn was replaced"),
    "patched block": (lambda m: patch(m.blocks[0]), r"forward of blocks\.0 was replaced"),
    "patched model": (patch, "forward of the model was replaced"),
    "compiled block": (lambda m: m.blocks[0].compile(), r"forward of blocks\.0 was replaced or compiled"),
    "no blocks": (lambda m: setattr(m, "blocks", nn.Sequential()), "has no blocks"),
}


@pytest.mark.parametrize("name", SURGERY)
def test_surgery_on_the_backbone_is_refused_by_place(name: str) -> None:
    model = tiny_vit()
    SURGERY[name][0](model)
    with pytest.raises(UnsupportedBackbone, match=SURGERY[name][1]):
        e2vpt.prompt(model)
    assert not any("prompts" in path for path, _ in model.named_modules())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attn_layer": "diff"}, r"blocks\.0\.attn is a DiffAttention, expected a plain Attention"),
        ({"block_fn": ResPostBlock}, r"blocks\.0 is a ResPostBlock, expected a Block"),
        ({"block_fn": ParallelScalingBlock}, r"blocks\.0 is a ParallelScalingBlock, expected a Block"),
    ],
)
def test_other_blocks_of_a_vit_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UnsupportedBackbone, match=message):
        e2vpt.prompt(tiny_vit(**options))


def test_surgery_on_a_swin_is_refused() -> None:
    model = tiny_swin()
    model.layers[1].blocks[0].attn.qkv = Lora(model.layers[1].blocks[0].attn.qkv)
    with pytest.raises(UnsupportedBackbone, match=r"layers\.1\.blocks\.0\.attn\.qkv is a Lora"):
        e2vpt.prompt(model)


@pytest.mark.parametrize("make", [tiny_vit, tiny_swin])
def test_a_prompted_model_is_refused(make: Callable[[], nn.Module]) -> None:
    with pytest.raises(ConfigError, match=r"has prompts already\. Load a fresh backbone"):
        find_sites(e2vpt.prompt(make()))


def test_a_backbone_without_weights_can_be_prompted() -> None:
    with torch.device("meta"):
        backbone = VisionTransformer(img_size=32, patch_size=8, embed_dim=48, depth=1, num_heads=3)
    model = e2vpt.prompt(backbone)
    assert all(p.is_meta for p in model.parameters())


def test_taking_over_shares_parts_and_not_the_containers() -> None:
    old = tiny_vit().blocks[0].attn
    old.register_forward_hook(lambda *_: None)
    new = nn.Module.__new__(type(old))
    take_over(new, old)
    assert dict(new.named_parameters()).keys() == dict(old.named_parameters()).keys()
    assert new.qkv is old.qkv and len(new._forward_hooks) == 1
    new.extra = nn.Identity()
    assert not hasattr(old, "extra")
