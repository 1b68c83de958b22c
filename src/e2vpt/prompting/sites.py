"""Where prompts enter a timm model, and how a module of it is replaced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from e2vpt.backbones.families import check_family, known_blocks
from e2vpt.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """One block whose attention takes prompts.

    Attributes:
        path: the block's name in the model, "blocks.0" or "layers.0.blocks.1".
        block: the timm block.
        attention: its attention module.
        width: model width D at this block.
        num_heads: heads H of keys and values.
        head_dim: head width d.
    """

    path: str
    block: nn.Module
    attention: nn.Module
    width: int
    num_heads: int
    head_dim: int


def find_sites(model: nn.Module) -> list[Site]:
    """The blocks of a timm model of a known family, in forward order.

    Raises:
        UnsupportedBackbone: its inside is not known (`known_blocks`).
        ConfigError: the model has prompts already.
    """
    check_family(model)
    if any(hasattr(module, "prompts") for module in model.modules()):
        raise ConfigError(
            "This backbone has prompts already. Load a fresh backbone, or a deepcopy made before prompt()."
        )
    return [_site(path, block) for path, block in known_blocks(model)]


def _site(path: str, block: nn.Module) -> Site:
    attention: Any = block.attn
    num_heads: int = getattr(attention, "num_kv_heads", attention.num_heads)
    fused = attention.qkv
    key_width = attention.k_proj.out_features if fused is None else fused.out_features // 3
    return Site(
        path=path,
        block=block,
        attention=attention,
        width=(attention.k_proj if fused is None else fused).in_features,
        num_heads=num_heads,
        head_dim=key_width // num_heads,
    )


def is_of_positions(name: str) -> bool:
    """Whether a module or parameter belongs to the network of Swin V2 that sees positions and no tokens."""
    return "cpb_mlp" in name.split(".")


def take_over(new: nn.Module, old: nn.Module) -> None:
    """Give `new` every parameter, buffer, child, hook and attribute of `old`, under the same names."""
    new.__dict__.update(
        {name: value.copy() if isinstance(value, (dict, set)) else value for name, value in vars(old).items()}
    )
