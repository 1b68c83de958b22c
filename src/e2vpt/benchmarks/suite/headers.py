"""What the headers of stored images say: format and size, held to the official ones; no pixel is decoded."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from e2vpt.benchmarks.vtab.tfds import BinaryImage
from e2vpt.data.decoding.images import ImageFile, ImageSource
from e2vpt.data.task import Split
from e2vpt.errors import UnreadableImages

LOOKED_AT = 1000
"""Images of a split, at most, that are looked at."""

_EXACT = frozenset({"PNG", "BMP", "PPM"})
# TFDS stores arrays as PNG, and the files of CLEVR and KITTI are PNG. The others were JPEG all along.
_LOSSLESS = ("cifar100", "svhn", "patch_camelyon", "clevr", "kitti", "dsprites", "smallnorb")
# Width and height: the shape of the feature `image` in tensorflow/datasets, docs/catalog.
_SIZES: Mapping[str, tuple[int, int]] = {
    "cifar100": (32, 32),
    "svhn": (32, 32),
    "patch_camelyon": (96, 96),
    "eurosat": (64, 64),
    "resisc45": (256, 256),
    "dmlab": (480, 360),
    "dsprites": (64, 64),
    "smallnorb": (96, 96),
}
"""Both by the data set that a task's name begins with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What the header of a stored image says.

    Attributes:
        image: which.
        format: Pillow's name; "" where it is no readable image.
        size: width and height.
        table: of a JPEG, its first quantisation table, which the quality of its compression decides.
    """

    image: ImageSource
    format: str
    size: tuple[int, int]
    table: tuple[int, ...] = ()


def read_headers(splits: Mapping[str, Split]) -> list[Header]:
    """Of at most `LOOKED_AT` images of each split, evenly spaced."""
    chosen = [image for split in splits.values() for image in _spread(split.images)]
    return [_header(image) for image in chosen]


def formats_of(headers: Sequence[Header]) -> str:
    """`PNG`, `JPEG and PNG`, ...; "" where none is readable."""
    return " and ".join(sorted({header.format for header in headers} - {""}))


def unlike_official(task: str, headers: Sequence[Header]) -> list[str]:
    """A sentence for each way in which images differ from the official ones of a task of VTAB-1k.

    A copy compressed with loss of images that were lossless, and images of another size where the official
    ones have all the same.
    """
    problems = []
    lossy = [header for header in headers if header.format and header.format not in _EXACT]
    if lossy and task.startswith(_LOSSLESS):
        problems.append(
            f"{_share(lossy, headers)} {formats_of(lossy)}; the official ones are lossless PNG. Prepare them "
            "with TFDS: copies as JPEG cost CIFAR-100 about ten points (visinf/adapter_plus issue 3)."
        )
    for width, height in (size for name, size in _SIZES.items() if task.startswith(name)):
        resized = [header for header in headers if header.format and header.size != (width, height)]
        if resized:
            found = " x ".join(map(str, resized[0].size))
            problems.append(
                f"{_share(resized, headers)} {found} or another size; the official ones are "
                f"{width} x {height} (width x height). Prepare them with TFDS, and do not resize them."
            )
    return problems


def one_encoder(task: str, headers: Sequence[Header]) -> str:
    """Whether the JPEG images of a task whose official ones are JPEG all come from one program, in words.

    Nothing in a file tells that it was compressed twice. But whoever copies a data set compresses all of it
    at one quality, while the official images of DTD or Oxford Pets come from many cameras and programs. "" if
    the tables differ; those of one maker (EuroSAT, DMLab) may be the same officially.
    """
    jpegs = [header for header in headers if header.table]
    if not jpegs or task.startswith(_LOSSLESS) or len({header.table for header in jpegs}) > 1:
        return ""
    quality = _qualities().get(jpegs[0].table)
    known = "" if quality is None else f", of quality {quality}"
    words = f"JPEG with one and the same quantisation table{known}: one program wrote them"
    return f"{_share(jpegs, headers)} {words}"


def unreadable(headers: Sequence[Header]) -> list[str]:
    """One sentence if some are no readable images, none otherwise."""
    bad = [header for header in headers if not header.format]
    if not bad:
        return []
    reason = _reason(bad[0].image)
    return [f"{_share(bad, headers)} not readable ({reason}). Download or copy the data again."]


def _share(some: Sequence[Header], headers: Sequence[Header]) -> str:
    return f"{len(some):,} of {len(headers):,} images looked at, {some[0].image.name} the first, are"


def _spread(images: Sequence[ImageSource]) -> Sequence[ImageSource]:
    return images[:: -(-len(images) // LOOKED_AT)]


def _header(image: ImageSource) -> Header:
    unknown = Header(image=image, format="", size=(0, 0))
    try:
        with Image.open(_stored(image)) as opened:
            table = tuple(getattr(opened, "quantization", {}).get(0, ()))
            return Header(image=image, format=opened.format or "", size=opened.size, table=table)
    except Exception:  # Decoders raise almost anything on broken bytes.
        return unknown


def _stored(image: ImageSource) -> io.BytesIO:
    """The image as it lies on disk."""
    file = image.file if isinstance(image, BinaryImage) else image
    assert isinstance(file, ImageFile)
    return io.BytesIO(file.read())


@functools.cache
def _qualities() -> Mapping[tuple[int, ...], int]:
    """The quality of each table that libjpeg makes, and with it Pillow, OpenCV and most others."""
    found: dict[tuple[int, ...], int] = {}
    for quality in range(1, 101):
        file = io.BytesIO()
        Image.new("L", (1, 1)).save(file, "JPEG", quality=quality)
        with Image.open(file) as opened:
            found[tuple(opened.quantization[0])] = quality  # type: ignore[attr-defined]
    return found


def _reason(image: ImageSource) -> str:
    try:
        image.open()
    except UnreadableImages as error:
        return error.problems[image.name]
    return "its header does not parse"
