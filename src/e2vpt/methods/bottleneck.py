"""Bottleneck adapters behind frozen modules.

Shapes: D model width, r bottleneck width.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


class Bottleneck(nn.Module):
    """x + up(GELU(down(x))), r channels wide; starts as the identity (arXiv 1902.00751)."""

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        nn.init.normal_(self.down.weight, std=0.01)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D] -> [..., D]."""
        out: Tensor = x + self.up(F.gelu(self.down(x)))
        return out


class Followed(nn.Module):
    """A frozen module and the adapter behind it, called as the module is."""

    def __init__(self, inner: nn.Module, adapter: Bottleneck) -> None:
        super().__init__()
        self.inner = inner
        self.adapter = adapter

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """What the module gives, through the adapter."""
        out: Tensor = self.adapter(self.inner(x, *args, **kwargs))
        return out
