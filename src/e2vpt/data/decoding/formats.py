"""Which files are images, by name and by content: one rule for training, prediction and benchmarks."""

from __future__ import annotations

import functools
from pathlib import PurePath

from PIL import Image

# Common formats of pictures, none that runs code (EPS) or lets one file point to others.
_DECODED = (
    *("AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "QOI"),
    *("SGI", "TGA", "TIFF", "WEBP"),
)
_HEIF_STARTS = {b"ftyp" + brand for brand in b"heic heix heim heis hevc mif1 msf1".split()}
_RAW = frozenset(
    [
        *(".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".iiq", ".kdc", ".mrw", ".nef", ".nrw", ".orf"),
        *(".pef", ".raf", ".raw", ".rw2", ".sr2", ".srf", ".srw", ".x3f"),
    ]
)
_HEIF = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})


@functools.cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are decoded; HEIF where a plugin for it is registered."""
    Image.init()
    return tuple(format for format in _DECODED if format in Image.OPEN)


@functools.cache
def image_suffixes() -> frozenset[str]:
    """Lower-case file suffixes, with the dot, of every format that is decoded."""
    Image.init()
    known = Image.registered_extensions()
    return frozenset(suffix for suffix, format in known.items() if format in formats())


def is_image(name: str) -> bool:
    """Whether a file of this name counts as an image, also of a kind that has to be converted first."""
    return PurePath(name).suffix.lower() in image_suffixes() | _HEIF | _RAW


def must_convert(data: bytes, name: str) -> str:
    """Why a photo of a known kind cannot be decoded, and what to do; "" for everything else."""
    suffix = PurePath(name).suffix.lower()
    if suffix in _RAW:
        return "a camera's raw file; develop it to JPEG, PNG or TIFF"
    if data[4:12] in _HEIF_STARTS and b"avif" not in data[:64] and "HEIF" not in formats():
        return "a HEIC photo; convert it to JPEG or PNG (phones can be set to store JPEG)"
    return ""
