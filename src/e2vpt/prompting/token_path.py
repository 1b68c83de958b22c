"""What tokens pass on their way to keys and values, by family.

That is a norm in front of the attention, biases beside its projection, and a norm of keys behind it.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.models.eva import EvaBlockPostNorm
from timm.models.swin_transformer_v2 import SwinTransformerV2Block
from timm.models.swin_transformer_v2 import WindowAttention as CosineWindowAttention
from torch import Tensor, nn
from torch.nn import functional as F


def biases_beside(attention: nn.Module) -> Tensor | None:
    """The biases of queries, keys and values [3·A] that lie beside its projection, if any."""
    parts: list[Any] = [getattr(attention, name, None) for name in ("q_bias", "k_bias", "v_bias")]
    return None if parts[0] is None else torch.cat(parts)


class UnitLength(nn.Module):
    """Vectors [..., d] scaled to length one."""

    def forward(self, x: Tensor) -> Tensor:
        """x [..., d] -> [..., d]."""
        return F.normalize(x, dim=-1)


_UNIT_LENGTH, _NOTHING = UnitLength(), nn.Identity()


def norm_of_keys(attention: nn.Module) -> nn.Module | None:
    """What keys pass behind the projection, of an attention as timm made it or of one with prompts."""
    if isinstance(attention, CosineWindowAttention):
        return _UNIT_LENGTH
    return getattr(attention, "k_norm", None)


def entry_norm(block: nn.Module) -> nn.Module:
    """What tokens pass between a block's input and its attention: `norm1`, unless that comes after."""
    comes_after = isinstance(block, (EvaBlockPostNorm, SwinTransformerV2Block))
    norm: nn.Module = _NOTHING if comes_after else block.norm1  # type: ignore[assignment]
    return norm
