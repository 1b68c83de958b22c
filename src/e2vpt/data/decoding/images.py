"""One image of a data set: where it lies, how it is decoded, and what is wrong with it."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

from e2vpt.data.decoding.cost import decoding_cost
from e2vpt.data.decoding.formats import formats, must_convert
from e2vpt.data.decoding.pixels import array_to_rgb, to_rgb, turn_upright
from e2vpt.data.decoding.room import room_for
from e2vpt.errors import UnreadableImages, visible

OnProgress = Callable[[int, int], None]
MAX_BYTES = 256 * 2**20
"""Of one image file: the largest image that is decoded, stored without compression."""
_LARGE = 16 * 2**20
_one_large_file = threading.Lock()
_PNG = b"\x89PNG\r\n\x1a\n"


class ImageSource(Protocol):
    """Anything that can be opened as an image, as often as needed, in any process."""

    @property
    def name(self) -> str:
        """What messages call this image; unique within a task."""
        ...

    def open(self, as_stored: bool = False) -> Image.Image:
        """The whole image, decoded, RGB: upright and over white, or `as_stored`, as TensorFlow decodes it.

        Raises:
            UnreadableImages: with this image's name and the reason.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFile:
    """An image file, or `size` bytes at `offset` of an archive, which deflate unpacks to `inflated`."""

    name: str
    path: Path
    offset: int = 0
    size: int | None = None
    inflated: int | None = None

    def open(self, as_stored: bool = False) -> Image.Image:
        """See `ImageSource.open`."""
        # Large files one at a time, so that many threads do not hold one each.
        with _one_large_file if max(self._length(), self.inflated or 0) > _LARGE else nullcontext():
            return decode(self.read(), self.name, as_stored)

    def read(self) -> bytes:
        """Its encoded bytes.

        Raises:
            UnreadableImages: no regular file, too large for an image, cannot be read or ends too early.
        """
        length = self._length()
        if (most := max(length, self.inflated or 0)) > MAX_BYTES:
            raise _unreadable(self.name, f"{most:,} bytes, too large for an image; at most {MAX_BYTES:,}")
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read(length)
        except OSError as error:
            raise _unreadable(self.name, error.strerror or str(error)) from error
        if len(data) < length:
            raise _unreadable(self.name, f"{visible(str(self.path))} ends inside this image")
        return data if self.inflated is None else self._inflate(data, self.inflated)

    def _inflate(self, packed: bytes, length: int) -> bytes:
        """Never more than the archive says it is."""
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, length + 1)
        except zlib.error as error:
            raise _unreadable(self.name, f"damaged in the archive ({error})") from error
        if len(data) != length:
            raise _unreadable(self.name, f"damaged in the archive: it unpacks to other than {length:,} bytes")
        return data

    def _length(self) -> int:
        """Bytes to read; also refuses what is no regular file (opening a pipe would wait for ever)."""
        try:
            if self.path.is_file():
                return self.path.stat().st_size if self.size is None else self.size
            exists = self.path.exists() or self.path.is_symlink()
        except (OSError, ValueError) as error:
            raise _unreadable(self.name, getattr(error, "strerror", None) or str(error)) from error
        raise _unreadable(self.name, "not a file, or a broken link" if exists else "the file is missing")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ImageInMemory:
    """A PIL image, an array [H, W] or [H, W, C], or a tensor [C, H, W], held in memory."""

    name: str
    pixels: Any

    def open(self, as_stored: bool = False) -> Image.Image:
        """See `ImageSource.open`."""
        return as_rgb(self.pixels, self.name, as_stored)


def as_rgb(pixels: Any, name: str, as_stored: bool = False) -> Image.Image:
    """A PIL image, array or tensor as an RGB image, as for `ImageSource.open`.

    Raises:
        UnreadableImages: it does not load, or its shape or range is none that `array_to_rgb` takes.
    """
    try:
        if isinstance(pixels, Image.Image):
            return to_rgb(pixels, as_stored)
        return array_to_rgb(pixels, as_stored)
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


def decode(data: bytes, name: str, as_stored: bool = False) -> Image.Image:
    """The bytes of an image file as an RGB image, as for `ImageSource.open`; safe on untrusted bytes.

    All threads together decode a bounded number of pixels at once (`room.AT_ONCE`).

    Raises:
        UnreadableImages: empty, not an image, truncated, of a kind that must be converted first, or
            that costs too much (`decoding_cost`).
    """
    if not data:
        raise _unreadable(name, "the file is empty (0 bytes)")
    if reason := must_convert(data, name):
        raise _unreadable(name, reason)
    try:
        try:
            return _decoded(data, as_stored)
        except ValueError:
            # Pillow refuses a PNG for its texts alone, if they are long; the pixels do not depend on them.
            if not data.startswith(_PNG):
                raise
            return _decoded(_without_texts(data), as_stored)
    except (
        Exception
    ) as error:  # Decoders raise almost anything on broken bytes, and every bad file must be named.
        raise _unreadable(name, _reason(error)) from error


def _decoded(data: bytes, as_stored: bool) -> Image.Image:
    opened = Image.open(io.BytesIO(data), formats=formats())
    with room_for(decoding_cost(opened, data)):
        opened.load()
        if not as_stored:
            turn_upright(opened)
        return to_rgb(opened, as_stored)


def _without_texts(png: bytes) -> bytes:
    """The file without its chunks of text and its colour profile, neither of which is used here."""
    kept, at = [_PNG], len(_PNG)
    while at < len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            kept.append(png[at:end])
        at = end
    return b"".join(kept)


def verify_images(images: Sequence[ImageSource], progress: OnProgress | None = None) -> None:
    """Decode every image once, before any training, calling `progress(done, total)` after each.

    Raises:
        UnreadableImages: with every unreadable image, not only the first.
    """
    problems = unreadable_images(images, progress)
    if problems:
        raise UnreadableImages(problems)


def unreadable_images(images: Sequence[ImageSource], progress: OnProgress | None = None) -> dict[str, str]:
    """What is wrong with each image that does not decode, by its name; progress as in `verify_images`."""
    problems: dict[str, str] = {}
    for done, found in enumerate(_problems(images), start=1):
        problems.update(found)
        if progress is not None:
            progress(done, len(images))
    return problems


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
    return visible(str(error)) or type(error).__name__


def _unreadable(name: str, reason: str) -> UnreadableImages:
    return UnreadableImages({name: reason})
