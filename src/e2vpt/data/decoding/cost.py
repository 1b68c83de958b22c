"""What decoding an image will cost, told from its head and before any of it is decoded."""

from __future__ import annotations

import re

from PIL import Image

# Measured with Pillow 13: a pixel takes up to 12 bytes until it is RGB, and more where the weight is above 1.
_FORMATS = {"AVIF": 1.2, "WEBP": 1.5, "JPEG2000": 2.0}
_MODES = {"LA": 1.5, "PA": 1.5, "RGBA": 1.5, "CMYK": 1.25, "I": 1.2, "F": 1.2}
_PROGRESSIVE = {"L": 1.0, "RGB": 1.25, "CMYK": 1.6}
_NARROW = 64
"""Pixels of width, below which the table of rows counts: it takes as much for a row as two pixels."""
_MOST_SCANS = 100
"""Of a JPEG: encoders write about ten, and every scan is a pass over all pixels."""
_MARKER = re.compile(rb"\xff+([\x02-\xcf\xd8-\xfe])")
_START_OF_SCAN, _END = 0xDA, 0xD9


def decoding_cost(image: Image.Image, data: bytes) -> int:
    """The pixels of an image that was opened from `data`, those of heavy formats weighted.

    Raises:
        DecompressionBombError: more than `PIL.Image.MAX_IMAGE_PIXELS`, or a JPEG that has very many scans.
    """
    if image.format in ("JPEG", "MPO"):
        scans = _count_scans(data, len(image.getbands()), "progressive" in image.info)
        if scans > _MOST_SCANS:
            raise Image.DecompressionBombError(f"a JPEG of {scans} scans; at most {_MOST_SCANS}")
        weight = _PROGRESSIVE.get(image.mode, 1.25) if scans > 1 else 1.0
    else:
        weight = _FORMATS.get(str(image.format), 1.0) * _MODES.get(image.mode, 1.0)
    width = image.width + (2 if image.width < _NARROW else 0)
    # The file's own bytes are held twice meanwhile.
    cost, limit = round(width * image.height * weight) + len(data) // 6, Image.MAX_IMAGE_PIXELS
    if limit is not None and cost > limit:
        counted = f", which count as {cost:,} in {image.format}" if cost > image.width * image.height else ""
        raise Image.DecompressionBombError(
            f"{image.width} x {image.height} pixels{counted}; at most {limit:,}"
        )
    return cost


def _count_scans(jpeg: bytes, bands: int, progressive: bool) -> int:
    """The scans of the first image in a JPEG file."""
    at, scans = 2, 0
    while (found := _MARKER.search(jpeg, at)) and found[1][0] != _END:
        at = found.end()
        if found[1][0] == _START_OF_SCAN:
            scans += 1
            if not progressive and jpeg[at + 2 : at + 3] == bytes([bands]):
                return 1  # All of it in one scan, as most are: the decoder reads no further.
        at += int.from_bytes(jpeg[at : at + 2], "big")
    return scans
