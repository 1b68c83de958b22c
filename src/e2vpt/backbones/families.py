"""The families of timm models whose inside is known; everything else is refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock, WindowAttention
from timm.models.vision_transformer import Attention, Block, VisionTransformer
from torch import nn

from e2vpt.errors import UnsupportedBackbone

_VIT_CHILDREN = frozenset({"qkv", "q_norm", "k_norm", "attn_drop", "norm", "gate", "proj", "proj_drop"})
_SWIN_CHILDREN = frozenset({"qkv", "attn_drop", "proj", "proj_drop", "softmax"})
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
    """Whether this is exactly timm's (first version) SwinTransformer."""
    return type(model) is SwinTransformer


def pretrained_cfg(model: nn.Module) -> dict[str, Any]:
    """What timm knows of a model's checkpoint; empty for a model made by hand."""
    return getattr(model, "pretrained_cfg", None) or {}


def check_family(model: nn.Module) -> None:
    """Refuse a model that is neither timm's ViT nor its Swin.

    Raises:
        UnsupportedBackbone: naming what it is.
    """
    if not (is_vit(model) or is_swin(model)):
        raise UnsupportedBackbone(
            f"Prompts can enter timm's VisionTransformer and SwinTransformer; found {_describe(model)}. "
            "Take a backbone of one of these classes, for example vit_base_patch16_224 or "
            "swin_base_patch4_window7_224."
        )


def known_blocks(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The blocks of a timm ViT or Swin with their names, in forward order.

    Raises:
        UnsupportedBackbone: the model, a block or an attention module is not of a type whose inside is
            known, or has a child that is not; the message names it.
    """
    check_family(model)
    _refuse_patched(model, "", model)
    blocks = list(_blocks(model))
    for path, block in blocks:
        _check_block(path, block, model)
    if not blocks:
        raise UnsupportedBackbone(f"{_describe(model)} has no blocks for prompts to enter.")
    return blocks


def _blocks(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(model, VisionTransformer):
        for index, block in enumerate(model.blocks):
            yield f"blocks.{index}", block
    else:
        for stage_index, stage in enumerate(model.layers):  # type: ignore[arg-type]
            for index, block in enumerate(stage.blocks):
                yield f"layers.{stage_index}.blocks.{index}", block


def _check_block(path: str, block: nn.Module, model: nn.Module) -> None:
    block_type, attention_type, children = (
        (Block, Attention, _VIT_CHILDREN)
        if is_vit(model)
        else (SwinTransformerBlock, WindowAttention, _SWIN_CHILDREN)
    )
    if type(block) is not block_type:
        _refuse(model, path, block, f"a {block_type.__name__}")
    _refuse_patched(model, path, block)
    attention = block.attn
    if type(attention) is not attention_type:
        _refuse(model, f"{path}.attn", attention, f"a plain {attention_type.__name__}")  # type: ignore[arg-type]
    assert isinstance(attention, (Attention, WindowAttention))
    unknown = {name for name, _ in attention.named_children()} - children
    if unknown:
        _refuse(model, f"{path}.attn", attention, f"no child {', '.join(sorted(unknown))}")
    _refuse_patched(model, f"{path}.attn", attention)
    if type(attention.qkv) is not nn.Linear:
        _refuse(model, f"{path}.attn.qkv", attention.qkv, "a plain Linear")


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
