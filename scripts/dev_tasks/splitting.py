"""Which photographs a task gets: drawn by a seed, and none so like another that it may be the same."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from scripts.dev_tasks.photographs import Photographed, Pools

Chosen = tuple[str, str, Image.Image, str]  # split, class, image, path in the repository


def difference_hash(image: Image.Image) -> NDArray[np.bool_]:
    """Whether each cell of a 16 by 16 grid is brighter than its right neighbour: 256 bits, for any size."""
    grey = np.asarray(image.convert("L").resize((17, 16), Image.Resampling.BOX), np.int16)
    return (grey[:, 1:] > grey[:, :-1]).ravel()


class Seen:
    """The images taken so far: told apart by their pixels, or by a hash that changes little when they do."""

    def __init__(self, alike: int) -> None:
        self.alike = alike
        self.pixels: set[bytes] = set()
        self.hashes: list[NDArray[np.bool_]] = []

    def is_new(self, image: Image.Image) -> bool:
        """Whether nothing like it was taken before; takes it if so."""
        pixels, bits = hashlib.sha256(image.convert("RGB").tobytes()).digest(), difference_hash(image)
        if pixels in self.pixels:
            return False
        if self.hashes and (np.stack(self.hashes) != bits).sum(1).min() <= self.alike:
            return False
        self.pixels.add(pixels)
        self.hashes.append(bits)
        return True


def upright(data: bytes) -> Image.Image:
    """The image of a file, turned as its camera was held."""
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data)))


def choose(task: Photographed, pools: Pools, seed: int = 0) -> Iterator[Chosen]:
    """`per_class` images of every class and split, drawn by a seed; fewer where a class has no more."""
    seen = Seen(task.alike)
    used: set[str] = set()
    for split, number in task.per_class.items():
        for name in sorted(pools[split]):
            rng = np.random.default_rng([seed, zlib.crc32(f"{task.name}/{split}/{name}".encode())])
            taken = 0
            for index in rng.permutation(len(pools[split][name])):
                path, data = pools[split][name][index]
                if taken == number or path in used:
                    continue
                used.add(path)
                image = upright(data())
                if seen.is_new(image):
                    taken += 1
                    yield split, name.replace(" ", "-"), image, path
