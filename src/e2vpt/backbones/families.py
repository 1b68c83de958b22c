"""The families of timm models whose inside is known; everything else is refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import timm.layers
from timm.models.beit import Attention as BeitAttention
from timm.models.beit import Beit
from timm.models.beit import Block as BeitBlock
from timm.models.eva import Eva, EvaAttention, EvaBlock, EvaBlockPostNorm
from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock, WindowAttention
from timm.models.swin_transformer_v2 import SwinTransformerV2, SwinTransformerV2Block
from timm.models.swin_transformer_v2 import WindowAttention as CosineWindowAttention
from timm.models.vision_transformer import Attention, Block, VisionTransformer
from torch import nn

from e2vpt.errors import UnsupportedBackbone


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """Models whose inside is known.

    Attributes:
        model: the class of the whole; none of its subclasses is meant.
        blocks, attentions: classes that its blocks and their attention may have.
        children: what may be inside an attention module.
        example: a name that timm builds.
    """

    model: type[nn.Module]
    blocks: tuple[type[nn.Module], ...]
    attentions: tuple[type[nn.Module], ...]
    children: frozenset[str]
    example: str


# timm's older ones do not have the second.
ROTARY_ATTENTIONS = (EvaAttention, getattr(timm.layers, "AttentionRope", EvaAttention))
_AROUND = frozenset({"qkv", "q_norm", "k_norm", "attn_drop", "norm", "gate", "proj", "proj_drop"})
_VIT = Family(
    model=VisionTransformer,
    blocks=(Block,),
    attentions=(Attention,),
    children=_AROUND,
    example="vit_base_patch16_224",
)
_SWIN = Family(
    model=SwinTransformer,
    blocks=(SwinTransformerBlock,),
    attentions=(WindowAttention,),
    children=frozenset({"qkv", "attn_drop", "proj", "proj_drop", "softmax"}),
    example="swin_base_patch4_window7_224",
)
_EVA = Family(
    model=Eva,
    blocks=(EvaBlock, EvaBlockPostNorm),
    attentions=ROTARY_ATTENTIONS,
    children=_AROUND | {"q_proj", "k_proj", "v_proj"},
    example="eva02_base_patch14_224",
)
_BEIT = Family(
    model=Beit,
    blocks=(BeitBlock,),
    attentions=(BeitAttention,),
    children=_AROUND,
    example="beit_base_patch16_224",
)
_SWIN_V2 = Family(
    model=SwinTransformerV2,
    blocks=(SwinTransformerV2Block,),
    attentions=(CosineWindowAttention,),
    children=_SWIN.children | {"cpb_mlp"},
    example="swinv2_tiny_window8_256",
)
_FAMILIES = (_VIT, _SWIN, _EVA, _BEIT, _SWIN_V2)
BLOCKS = tuple(block for family in _FAMILIES for block in family.blocks)
"""The classes of blocks that prompts can enter."""
ATTENTIONS = tuple(attention for family in _FAMILIES for attention in family.attentions)
"""The classes of attention in them."""
_COMPILED = "_orig_mod"


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside what torch.compile, DataParallel and DistributedDataParallel put around it."""
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        inner = model.module if isinstance(model, parallel) else model._modules.get(_COMPILED)
        if inner is None:
            return model
        model = inner


def plain_name(name: str) -> str:
    """A parameter's name as it is without torch.compile, which puts itself into the names."""
    return name.replace(f"{_COMPILED}.", "")


def is_vit(model: nn.Module) -> bool:
    """Whether this is exactly timm's VisionTransformer."""
    return type(model) is VisionTransformer


def is_swin(model: nn.Module) -> bool:
    """Whether this is exactly timm's SwinTransformer, of the first version or the second."""
    return type(model) in (SwinTransformer, SwinTransformerV2)


def pretrained_cfg(model: nn.Module) -> dict[str, Any]:
    """What timm knows of a model's checkpoint; empty for a model made by hand."""
    return getattr(model, "pretrained_cfg", None) or {}


def check_family(model: nn.Module) -> Family:
    """The family of a model.

    Raises:
        UnsupportedBackbone: it is of none that is known; the message names what it is.
    """
    for family in _FAMILIES:
        if type(model) is family.model:
            return family
    classes = [family.model.__name__ for family in _FAMILIES]
    examples = [family.example for family in _FAMILIES]
    name = str(pretrained_cfg(model).get("architecture") or "")
    plain = name.replace("_distilled", "")
    twin = "" if plain == name else f"{plain}, the same without a token of distillation, or "
    raise UnsupportedBackbone(
        f"Prompts can enter timm's {_listed(classes, 'and')}; found {_describe(model)}. "
        f"Take {twin}a backbone of one of these classes, for example {_listed(examples, 'or')}."
    )


def _listed(words: list[str], last: str) -> str:
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def known_blocks(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The blocks of a timm model of a known family with their names, in forward order.

    Raises:
        UnsupportedBackbone: the model, a block or an attention module is not of a type whose inside is
            known, or has a child that is not; the message names it.
    """
    family = check_family(model)
    _refuse_patched(model, "", model)
    blocks = list(_blocks(model))
    for path, block in blocks:
        _check_block(path, block, model, family)
    if not blocks:
        raise UnsupportedBackbone(f"{_describe(model)} has no blocks for prompts to enter.")
    return blocks


def _blocks(model: Any) -> Iterator[tuple[str, nn.Module]]:
    if is_swin(model):
        for stage_index, stage in enumerate(model.layers):
            for index, block in enumerate(stage.blocks):
                yield f"layers.{stage_index}.blocks.{index}", block
    else:
        for index, block in enumerate(model.blocks):
            yield f"blocks.{index}", block


def _check_block(path: str, block: nn.Module, model: nn.Module, family: Family) -> None:
    if type(block) not in family.blocks:
        _refuse(model, path, block, f"a {_either(family.blocks)}")
    _refuse_patched(model, path, block)
    attention: Any = block.attn
    if type(attention) not in family.attentions:
        _refuse(model, f"{path}.attn", attention, f"a plain {_either(family.attentions)}")
    inside = dict(attention.named_children())
    unknown = inside.keys() - family.children
    if unknown:
        _refuse(model, f"{path}.attn", attention, f"no child {', '.join(sorted(unknown))}")
    _refuse_patched(model, f"{path}.attn", attention)
    for name in ("qkv", "q_proj", "k_proj", "v_proj"):
        if name in inside and type(inside[name]) is not nn.Linear:
            _refuse(model, f"{path}.attn.{name}", inside[name], "a plain Linear")


def _either(classes: tuple[type[nn.Module], ...]) -> str:
    return " or ".join(dict.fromkeys(each.__name__ for each in classes))


def _refuse(model: nn.Module, path: str, found: nn.Module, expected: str) -> None:
    raise UnsupportedBackbone(
        f"{_describe(model)} cannot take prompts: {path} is a {type(found).__name__}, expected {expected}."
    )


def _refuse_patched(model: nn.Module, path: str, module: nn.Module) -> None:
    """A `forward` set on the object, or compiled for it, would run instead of ours, without prompts."""
    if "forward" in vars(module) or vars(module).get("_compiled_call_impl") is not None:
        raise UnsupportedBackbone(
            f"{_describe(model)} cannot take prompts: the forward of {path or 'the model'} was replaced or "
            "compiled. Call prompt() on the backbone as timm makes it, and compile or patch it afterwards."
        )


def _describe(model: nn.Module) -> str:
    architecture = pretrained_cfg(model).get("architecture")
    return type(model).__name__ + (f" ({architecture})" if architecture else "")
