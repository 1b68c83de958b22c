"""One image of a data set: where it lies, how it is decoded, and what is wrong with it."""

from __future__ import annotations

import functools
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from e2vpt.data.pixels import array_to_rgb, to_rgb
from e2vpt.errors import UnreadableImages

OnProgress = Callable[[int, int], None]


class ImageSource(Protocol):
    """Anything that can be opened as an image, as often as needed, in any process."""

    @property
    def name(self) -> str:
        """What messages call this image; unique within a task."""
        ...

    def open(self) -> Image.Image:
        """The whole image, decoded, upright, RGB.

        Raises:
            UnreadableImages: with this image's name and the reason.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFile:
    """An image file, or `size` bytes at `offset` of an uncompressed archive (nothing is ever extracted)."""

    name: str
    path: Path
    offset: int = 0
    size: int | None = None

    def open(self) -> Image.Image:
        """See `ImageSource.open`."""
        return decode(self.read(), self.name)

    def read(self) -> bytes:
        """Its encoded bytes.

        Raises:
            UnreadableImages: the file is missing, cannot be read or ends too early.
        """
        try:
            if not self.path.is_file():
                exists = self.path.exists() or self.path.is_symlink()
                raise _unreadable(
                    self.name, "not a file, or a broken link" if exists else "the file is missing"
                )
            with self.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read(-1 if self.size is None else self.size)
        except OSError as error:
            raise _unreadable(self.name, error.strerror or str(error)) from error
        if self.size is not None and len(data) < self.size:
            raise _unreadable(self.name, f"{self.path} ends inside this image")
        return data


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ImageInMemory:
    """A PIL image, an array [H, W] or [H, W, C], or a tensor [C, H, W], held in memory."""

    name: str
    pixels: Any

    def open(self) -> Image.Image:
        """See `ImageSource.open`."""
        return as_rgb(self.pixels, self.name)


def as_rgb(pixels: Any, name: str) -> Image.Image:
    """A PIL image, array or tensor as an upright RGB image.

    Raises:
        UnreadableImages: it does not load, or its shape or range is none that `array_to_rgb` takes.
    """
    try:
        return to_rgb(pixels) if isinstance(pixels, Image.Image) else array_to_rgb(pixels)
    except Exception as error:
        raise _unreadable(name, _reason(error)) from error


def content_digest(image: ImageSource) -> str:
    """A hash of an image's content: the bytes of a file, the pixels of anything else.

    Raises:
        UnreadableImages: it cannot be read.
    """
    if isinstance(image, ImageFile):
        return hashlib.blake2b(image.read(), digest_size=16).hexdigest()
    pixels = np.asarray(image.pixels if isinstance(image, ImageInMemory) else image.open())
    shape = f"{pixels.shape}{pixels.dtype}".encode()
    return hashlib.blake2b(shape + np.ascontiguousarray(pixels).tobytes(), digest_size=16).hexdigest()


def decode(data: bytes, name: str) -> Image.Image:
    """The bytes of an image file as an upright RGB image; safe on untrusted bytes.

    Raises:
        UnreadableImages: empty, not an image, truncated, or more pixels than Pillow's bomb limit allows.
    """
    if not data:
        raise _unreadable(name, "the file is empty (0 bytes)")
    try:
        opened = Image.open(io.BytesIO(data), formats=_formats())
        opened.load()
        return to_rgb(opened)
    except (
        Exception
    ) as error:  # Decoders raise almost anything on broken bytes, and every bad file must be named.
        raise _unreadable(name, _reason(error)) from error


def verify_images(images: Sequence[ImageSource], progress: OnProgress | None = None) -> None:
    """Decode every image once, before any training, calling `progress(done, total)` after each.

    Raises:
        UnreadableImages: naming every unreadable image, not only the first.
    """
    problems: dict[str, str] = {}
    for done, found in enumerate(_problems(images), start=1):
        problems.update(found)
        if progress is not None:
            progress(done, len(images))
    if problems:
        raise UnreadableImages(problems)


@functools.cache
def image_suffixes() -> frozenset[str]:
    """Lower-case file suffixes, with the dot, of every format that `decode` reads."""
    known = Image.registered_extensions()
    return frozenset(suffix for suffix, format in known.items() if format in _formats())


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    # Pillow hands EPS to Ghostscript, an interpreter: not for files of strangers.
    return tuple(format for format in Image.OPEN if format != "EPS")


def _problems(images: Sequence[ImageSource]) -> Iterator[dict[str, str]]:
    """The problem of each image in turn ({} for a good one)."""
    if not all(isinstance(image, ImageFile) for image in images):
        yield from map(_problem, images)  # Somebody else's data set need not be thread-safe.
        return
    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        yield from pool.map(_problem, images)
    finally:
        pool.shutdown(cancel_futures=True)


def _problem(image: ImageSource) -> dict[str, str]:
    try:
        image.open()
    except UnreadableImages as error:
        return error.problems
    return {}


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image in any format Pillow reads"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"refused as a decompression bomb: {error}"
    return str(error) or type(error).__name__


def _unreadable(name: str, reason: str) -> UnreadableImages:
    return UnreadableImages({name: reason})
