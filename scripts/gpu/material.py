"""What the stages need and write: images, a backbone with random weights, reports."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import timm
from PIL import Image, ImageDraw
from safetensors.torch import save_file

ROOT = Path(__file__).parents[2]


def write_images(folder: Path, count: int, side: int) -> None:
    """Ten classes of noisy discs of ten colours, JPEG."""
    random = np.random.default_rng(0)
    for index in range(count):
        label = index % 10
        image = Image.fromarray(random.integers(0, 255, (side, side, 3), dtype=np.uint8))
        x, y = random.integers(0, side // 2, 2).tolist()
        colour = (25 * label, 255 - 25 * label, 128)
        ImageDraw.Draw(image).ellipse((x, y, x + side // 2, y + side // 2), fill=colour)
        path = folder / f"class{label}" / f"{index:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)


def random_vit_b(folder: Path) -> list[str]:
    """A ViT-B/16 with random weights in a file: time does not depend on them."""
    path = folder / "vit_b.safetensors"
    if not path.exists():
        save_file(timm.create_model("vit_base_patch16_224").state_dict(), path)
    return ["--backbone", "vit_base_patch16_224", "--weights", str(path)]


def call(asked: argparse.Namespace, log: str, *words: str) -> None:
    """Run Python; its output goes to a file of the folder, and its end to the terminal."""
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    (asked.out / log).write_text(done.stdout)
    print(done.stdout[-3000:], flush=True)
    done.check_returncode()


def write(asked: argparse.Namespace, name: str, what: Any) -> None:
    """A file of the folder."""
    (asked.out / name).write_text(json.dumps(what, indent=1) + "\n")
    print(json.dumps(what), flush=True)
