"""Small trained modules beside frozen ones: bottleneck adapters and a side network.

Shapes: B images, N tokens, D model width, r bottleneck width.
"""

from __future__ import annotations

from typing import Any

import torch
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


class SideNetwork(nn.Module):
    """A small convolutional network whose feature is blended with the backbone's (arXiv 1912.13503).

    VPT blends a pretrained AlexNet; this one starts from random values, as nothing else is at hand offline.
    """

    def __init__(self, width: int, channels: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, channels, 7, stride=4, padding=3),
            nn.GELU(),
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(2 * channels, 4 * channels, 3, stride=2, padding=1),
            nn.GELU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.project = nn.Linear(4 * channels, width)
        self.blend = nn.Parameter(torch.zeros(()))

    def forward(self, images: Tensor, feature: Tensor) -> Tensor:
        """Images [B, 3, h, w] and the backbone's feature [B, D] -> their blend [B, D]."""
        share = self.blend.sigmoid()
        out: Tensor = share * feature + (1 - share) * self.project(self.layers(images))
        return out
