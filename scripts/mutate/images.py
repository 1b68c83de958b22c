"""Images: predicted on, against Pillow's own decoding through timm's own preprocessing."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, PngImagePlugin
from timm.data.transforms_factory import create_transform

import e2vpt
from e2vpt.data import ImageFile
from scripts.mutate.adapter_bases import CLASSES, make_bases
from scripts.mutate.costly_images import FILES
from scripts.mutate.watch import Case, Make

_OURS = frozenset(
    [
        *("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "QOI"),
        *("SGI", "TGA", "TIFF", "WEBP"),
    ]
)
_MEANT = ("at most", "decompression bomb", "HEIC photo", "raw file", "pixels from", "is empty")
"""Words of refusals of what Pillow might well decode."""


def prepare(folder: Path) -> Make:
    """Cases of one image file each, predicted on by a small adapter."""
    folder.mkdir(exist_ok=True)
    backbone = make_bases(folder)[0].plain
    model = e2vpt.load(folder / "base0", backbone, device="cpu")
    makers, weights = zip(*FILES, strict=True)

    def make(random: Random, place: Path) -> Case:
        name, data, what = random.choices(makers, weights)[0](random)
        path = place / name
        path.write_bytes(data)
        if random.random() < 0.02:
            path, what = _no_file(random, path)
        return _case(model, path, what)

    return make


def _no_file(random: Random, path: Path) -> tuple[Path, str]:
    path.unlink()
    way = random.choice(["pipe", "link to itself", "missing", "long name", "device", "no permission"])
    if way == "pipe":
        os.mkfifo(path)
    elif way == "link to itself":
        path.symlink_to(path)
    elif way == "long name":
        path = path.with_name("x" * 300 + ".png")
    elif way == "device":
        path.symlink_to("/dev/zero")
    elif way == "no permission":
        path.write_bytes(b"")
        path.chmod(0)
    return path, way


def _case(model: e2vpt.TaskModel, path: Path, what: str) -> Case:
    refused: list[str] = []

    def run() -> tuple[Any, Image.Image]:
        (predicted,) = model.predict(path, topk=9)
        try:
            opened = ImageFile(name=str(path), path=path).open()
        except e2vpt.errors.UnreadableImages as error:
            refused.append(next(iter(error.problems.values())))
            assert predicted.error == refused[0], predicted
            raise
        assert not predicted.error, predicted
        return predicted, opened

    def after() -> str:
        if not refused or any(word in refused[0] for word in _MEANT):
            return ""
        try:
            good = _decoded(path)
        except Exception:
            return ""
        return "" if good is None else f"refused a good image: {refused[0]}"

    def check(made: tuple[Any, Image.Image]) -> str:
        return _wrong(model, path, *made)

    return Case(name=what, run=run, check=check, after=after, mentions=(path.name[:40],))


def _wrong(model: e2vpt.TaskModel, path: Path, predicted: Any, opened: Image.Image) -> str:
    wanted = _decoded(path)
    if wanted is None:
        return "opened a format that is not decoded"
    found = np.asarray(opened)
    if opened.mode != "RGB" or found.shape != wanted.shape:
        return f"{opened.mode} {found.shape}, Pillow has {wanted.shape}"
    rows = max(1, 2**22 // found.shape[1])
    worst = max(
        int(np.abs(found[i : i + rows].astype(np.int16) - wanted[i : i + rows]).max())
        for i in range(0, len(found), rows)
    )
    if worst > 1:
        return f"pixels differ by up to {worst} of 255"
    if max(opened.size) > 200 * min(opened.size):
        return ""
    prep = model.info.preprocessing
    pipeline = create_transform(
        input_size=(3, *prep.image_size),
        is_training=False,
        interpolation=prep.interpolation,
        mean=prep.mean,
        std=prep.std,
        crop_pct=prep.crop_pct,
        crop_mode=prep.crop_mode,
    )
    with torch.inference_mode():
        row = model.model(pipeline(Image.fromarray(wanted))[None])[0].softmax(0)
    expected = dict(zip(CLASSES, row.tolist(), strict=True))
    difference = max(abs(expected[n] - s) for n, s in zip(predicted.classes, predicted.scores, strict=True))
    return f"scores differ by {difference}" if difference > 0.03 else ""


@contextmanager
def _without_limits() -> Iterator[None]:
    pixels, chunk, memory = (
        Image.MAX_IMAGE_PIXELS,
        PngImagePlugin.MAX_TEXT_CHUNK,
        PngImagePlugin.MAX_TEXT_MEMORY,
    )
    Image.MAX_IMAGE_PIXELS = None
    PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = 2**30
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = pixels
        PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = chunk, memory


def _decoded(path: Path) -> Any:
    """[H, W, 3] uint8 as a person sees the image; None for a format that is not decoded here."""
    if not path.is_file():
        raise FileNotFoundError(path)
    # Not by the path: Pillow 13 maps a turned TIFF wrongly into memory.
    with _without_limits(), Image.open(io.BytesIO(path.read_bytes())) as image:
        if image.format not in _OURS:
            return None
        image.load()
        try:
            upright = ImageOps.exif_transpose(image)
        except Exception:  # Broken metadata; the pixels are whole.
            upright = image
    seen = upright.info.get("transparency")
    if upright.mode.startswith("I;16") or upright.mode in ("I", "F"):
        values = np.asarray(upright).astype(np.float64)
        top = 1.0 if upright.mode == "F" else 65535.0
        assert values.min() >= 0 and values.max() <= top
        grey = np.rint(values * (255 / top))
        if isinstance(seen, int):
            grey[values == seen] = 255
        return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)
    if not upright.has_transparency_data:
        return np.asarray(upright.convert("RGB"))
    rgba = np.asarray(upright.convert("RGBA"))
    if rgba.size > 2**26:  # Large ones are made plain.
        return np.asarray(
            Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright.convert("RGBA"))
        )[..., :3]
    alpha = rgba[..., 3:].astype(np.float64) / 255
    return np.rint(rgba[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
