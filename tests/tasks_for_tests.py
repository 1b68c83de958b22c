"""Small tasks and models that the tests make for themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import e2vpt

COLOURS = {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (210, 50, 40)}


def write_images(folder: Path, per_class: int, seed: int = 0) -> Path:
    """Class folders of noisy one-colour PNG images, 20 x 20."""
    random = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(per_class):
            pixels = np.clip(np.array(colour) + random.normal(0, 60, (20, 20, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{index:02d}.png")
    return folder


def write_task(folder: Path, train: int = 6, val: int = 3, test: int = 4) -> Path:
    """A data set with train, val and test folders."""
    for seed, (split, count) in enumerate({"train": train, "val": val, "test": test}.items()):
        write_images(folder / split, count, seed)
    return folder


def tiny_vit(dtype: torch.dtype = torch.float64, **prompts: object) -> nn.Module:
    """A prompted two-block ViT on 16 px images with 3 classes, all parameters random."""
    model = VisionTransformer(
        img_size=16, patch_size=8, embed_dim=24, depth=2, num_heads=2, mlp_ratio=2, num_classes=3
    ).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    settings = {"num_visual": 3, "num_kv": 2} | prompts
    return e2vpt.prompt(model, e2vpt.PromptConfig(**settings)).to(dtype)  # type: ignore[arg-type]


def batches(
    sizes: list[int], dtype: torch.dtype = torch.float64, seed: int = 0
) -> list[tuple[Tensor, Tensor]]:
    """Batches of random images whose brightness gives their class away."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for size in sizes:
        labels = torch.randint(0, 3, (size,), generator=generator)
        images = torch.randn(size, 3, 16, 16, generator=generator) + (labels.float() - 1).view(-1, 1, 1, 1)
        made.append((images.to(dtype), labels))
    return made
