"""A small network beside the backbone, its feature blended with the backbone's.

Shapes: B images, C classes, D model width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from e2vpt.prompting.parts import classifier


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


class SideForward:
    """`forward` of a backbone with a side network: [B, 3, h, w] -> [B, C].

    A method of an object that holds its model, so that it follows deepcopy and pickle.
    """

    def __init__(self, model: nn.Module) -> None:
        # timm types its children as Tensor | Module.
        self.model: Any = model

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, C] of the blended feature."""
        model = self.model
        feature = model.forward_head(model.forward_features(x), pre_logits=True)
        logits: Tensor = classifier(model)(model.side(x, feature))
        return logits
