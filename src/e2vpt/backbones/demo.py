"""The small backbone that this package ships."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timm.models.vision_transformer import VisionTransformer
from torch import nn

DEMO_ARCHITECTURE: Mapping[str, Any] = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 128,
    "depth": 6,
    "num_heads": 4,
    "mlp_ratio": 4.0,
}
DEMO_WEIGHTS = Path(__file__).with_name("demo_backbone.safetensors")
_DEMO_CFG: Mapping[str, Any] = {
    "architecture": "demo",
    "tag": None,
    "input_size": (3, 32, 32),
    "fixed_input_size": True,
    "crop_pct": 1.0,
    "interpolation": "bicubic",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "num_classes": 0,
    "first_conv": "patch_embed.proj",
    "classifier": "head",
}


def build_demo(num_classes: int, asked: Mapping[str, int]) -> nn.Module:
    """The demo's ViT, weights still random; `asked` is what differs from its architecture."""
    model = VisionTransformer(**{**DEMO_ARCHITECTURE, **asked}, num_classes=num_classes)
    model.pretrained_cfg = model.default_cfg = dict(_DEMO_CFG)  # type: ignore[assignment]
    return model
