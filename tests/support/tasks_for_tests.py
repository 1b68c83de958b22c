"""Small tasks and models that the tests make for themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import e2vpt

CLASSES = ("bars", "disc", "ring")
TINY_PREPROCESSING = e2vpt.Preprocessing(image_size=(16, 16), mean=(0.5,) * 3, std=(0.5,) * 3)  # type: ignore[arg-type]
"""Of `tiny_vit`."""


def draw(name: str, random: np.random.Generator) -> Image.Image:
    """A noisy white shape of that class, 24 x 24, at a place of its own."""
    canvas = Image.new("RGB", (24, 24), (40, 40, 40))
    pen = ImageDraw.Draw(canvas)
    x, y = random.integers(2, 6, 2).tolist()
    box, white = (x, y, x + 15, y + 15), (230, 230, 230)
    if name == "bars":
        for offset in range(0, 16, 5):
            pen.line((x, y + offset, x + 15, y + offset), white, 2)
    elif name == "disc":
        pen.ellipse(box, fill=white)
    else:
        pen.ellipse(box, outline=white, width=2)
    noisy = np.asarray(canvas) + random.normal(0, 15, (24, 24, 3))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def write_images(folder: Path, per_class: int, seed: int = 0) -> Path:
    """Class folders of PNG images, one simple shape each."""
    random = np.random.default_rng(seed)
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(per_class):
            draw(name, random).save(folder / name / f"{index:02d}.png")
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
