"""Benchmark data in small, as it is published or nearly, and the verdict on one task of it."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path

from PIL import Image
from support import tfds_for_tests as written

from e2vpt.benchmarks.suite.check import Check, Checked

_CIFAR = {"train": 2000, "test": 10}


def image_file(format: str, side: int) -> bytes:
    """A square of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), (40, 90, 160)).save(file, format)
    return file.getvalue()


def write_examples(
    folder: Path,
    counts: Mapping[str, int],
    features: Callable[[int], dict[str, written.Value]],
    image: bytes,
    name: str = "",
) -> Path:
    """Splits as TFDS prepares them: the same image in each example, with features by its number."""
    splits = {
        split: [[written.example({"image": image} | features(i)) for i in range(count)]]
        for split, count in counts.items()
    }
    return written.write_prepared(folder, name or folder.parent.name, splits)


def write_cifar(root: Path, image: bytes, classes: int = 100) -> Path:
    """As TFDS has it, with ten images to test on."""
    return write_examples(root / "cifar100" / "3.0.2", _CIFAR, lambda i: {"label": [i % classes]}, image)


def write_lists(folder: Path, image: bytes, classes: int, test: int) -> None:
    """Image lists of VTAB-1k, every image a link to one file."""
    folder.mkdir(parents=True)
    (folder / "one").write_bytes(image)
    for name, count in (("train800", 800), ("val200", 200), ("test", test)):
        for i in range(count):
            (folder / f"{name}-{i}").symlink_to("one")
        lines = [f"{name}-{i} {i % classes}" for i in range(count)]
        (folder / f"{name}.txt").write_text("\n".join(lines))


def verdict_on(check: Check, name: str) -> Checked:
    """What the check says of one task."""
    return next(task for task in check.tasks if task.name == name)
