"""A bundle: an adapter and the weights of its backbone in one file, for machines without a connection.

It is an adapter file whose header has one field more, `bundle`, and whose tensors are called `adapter.<name>`
and `backbone.<name>`. The backbone's are those of the plain model at the adapter's image size, in float32,
under timm's names and an empty head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from e2vpt.adapters.words import checked_word
from e2vpt.backbones.checkpoint_layouts import WeightTensors
from e2vpt.backbones.families import pretrained_cfg
from e2vpt.backbones.load import backbone_name
from e2vpt.backbones.weights import head_names

_FIELD = "bundle"
_ADAPTER, _BACKBONE = "adapter.", "backbone."


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Bundled:
    """A backbone in a file.

    Attributes:
        name: what `load_backbone` builds it by, without asking the hub.
        weights: its tensors.
    """

    name: str
    weights: WeightTensors


def bundle(
    header: Mapping[str, Any], tensors: Mapping[str, Tensor], backbone: nn.Module
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a bundle, from those of an adapter file and the plain backbone."""
    name = backbone_name(backbone)
    if ":" in name:  # The hub holds the settings of such a model; most are those of its architecture.
        name = str(pretrained_cfg(backbone)["architecture"])
    head = head_names(backbone)
    # The head's names tell timm that the others are its own.
    weights = {n: torch.zeros_like(t[:1]) if n in head else t for n, t in backbone.state_dict().items()}
    stored = {f"{_ADAPTER}{n}": t for n, t in tensors.items()}
    stored |= {f"{_BACKBONE}{n}": t.float() if t.is_floating_point() else t for n, t in weights.items()}
    return {**header, _FIELD: {"backbone": name}}, stored


def unbundle(
    header: dict[str, Any], tensors: dict[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor], Bundled | None]:
    """Header and tensors of the adapter, and the backbone beside it; None in an adapter file.

    Raises:
        ValueError: it is neither; the text says what was found.
    """
    if _FIELD not in header:
        return header, tensors, None
    found = header[_FIELD]
    if not isinstance(found, dict) or set(found) != {"backbone"}:
        raise ValueError(f"{_FIELD} is {found!r:.200}; expected the backbone's name.")
    name = checked_word(found["backbone"])
    if not name:  # The adapter's own word for its backbone may be one of the hub, which no file may choose.
        raise ValueError(f"{_FIELD} names no backbone.")
    parts: dict[str, dict[str, Tensor]] = {_ADAPTER: {}, _BACKBONE: {}}
    for key, tensor in tensors.items():
        prefix, _, rest = key.partition(".")
        if f"{prefix}." not in parts:
            raise ValueError(f"{key} belongs neither to the adapter nor to the backbone of a bundle.")
        parts[f"{prefix}."][rest] = tensor
    own = {field: value for field, value in header.items() if field != _FIELD}
    return own, parts[_ADAPTER], Bundled(name=name, weights=parts[_BACKBONE])


def missing_numbers(bundled: Bundled, planned: nn.Module) -> int:
    """How many numbers a backbone needs more than a bundle holds; `planned` has no memory yet."""
    held = sum(tensor.numel() for tensor in bundled.weights.values())
    head = head_names(planned)
    return sum(p.numel() for name, p in planned.named_parameters() if name not in head) - held
