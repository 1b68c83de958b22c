"""A task as a folder: class folders per split and a table of where every image came from."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

SIDE = 128  # the shorter side of a stored image is never longer, in pixels


def small(image: Image.Image) -> Image.Image:
    """RGB, in its own proportions, the shorter side reduced to SIDE where it is longer."""
    scale = SIDE / min(image.size)
    image = image.convert("RGB")
    if scale >= 1:
        return image
    width, height = (max(SIDE, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def write(out: Path, rows: Iterable[tuple[str, str, Image.Image, str]], suffix: str) -> None:
    """Writes (split, class, image, source) as `out/split/class/NNNN.suffix`, and labels.csv beside them."""
    out.mkdir(parents=True)
    with (out / "labels.csv").open("w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["split", "path", "class", "source"])
        for index, (split, name, image, source) in enumerate(rows):
            path = Path(split, name, f"{index:04d}.{suffix}")
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            small(image).save(out / path, quality=92)
            writer.writerow([split, path.as_posix(), name, source])
