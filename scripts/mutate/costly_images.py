"""Image files that cost much: many scans, many pixels, much metadata; and the list of all makers."""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random

from PIL import Image, PngImagePlugin, TiffImagePlugin

from scripts.mutate.image_files import (
    Made,
    bomb,
    damaged,
    misnamed,
    moving,
    odd_png,
    oriented,
    picture,
    saved,
    whole,
)


def many_scans(random: Random) -> Made:
    """A progressive JPEG whose last scan comes again and again."""
    side, times = random.choice([(64, 50), (1500, 800), (6000, 3000)])
    data = saved(Image.new("L", (side, side), 90), "jpg", progressive=True)
    start = data.rindex(b"\xff\xda")
    return "a.jpg", data[:start] + data[start:-2] * times + b"\xff\xd9", f"jpg {side} pixels, {times} scans"


def large(random: Random) -> Made:
    """As many pixels as are decoded, in the modes and formats that take most memory."""
    suffix, mode, options = random.choice(
        [
            *(("png", m, {"compress_level": 1}) for m in ("RGBA", "LA", "P", "1", "I;16", "RGB")),
            *(("jpg", m, {"progressive": p}) for m in ("RGB", "CMYK", "L") for p in (True, False)),
            *(("tiff", m, {"compression": "tiff_adobe_deflate"}) for m in ("CMYK", "RGBA", "F", "I", "LA")),
            *(("bmp", "RGB", {}), ("gif", "P", {}), ("tga", "RGBA", {"compression": "tga_rle"})),
            *(("webp", "RGB", {"method": 0}), ("webp", "RGBA", {"method": 0, "quality": 1})),
            *(("jp2", "L", {}), ("avif", "RGB", {"speed": 10})),
        ]
    )
    side = {"jp2": 5000, "avif": 5000}.get(suffix, 9400)
    image = Image.new(mode, (side, side)) if mode != "LA" else Image.new("LA", (side, side), (9, 9))
    if random.random() < 0.3 and suffix in ("jpg", "png", "tiff"):
        exif = Image.Exif()
        exif[0x112] = 6
        options = {**options, "exif": exif}
    return f"a.{suffix}", saved(image, suffix, **options), f"large {suffix} {mode} {sorted(options)}"


def loaded_with_words(random: Random) -> Made:
    """Good pixels under metadata of megabytes."""
    way = random.choice(
        ["png texts", "png itxt", "jpg comments", "jpg app", "gif comments", "tiff tags", "icc"]
    )
    image = picture(random, "RGB", (30, 20))
    if way.startswith("png"):
        info = PngImagePlugin.PngInfo()
        for index in range(8):
            info.add_text(f"k{index}", "x" * 900_000, zip=way == "png itxt")
        return "a.png", saved(image, "png", pnginfo=info), way
    if way == "gif comments":
        return "a.gif", saved(image, "gif", comment=b"x" * 2_000_000), way
    if way == "tiff tags":
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        for number in range(65_000, 65_300):
            tags[number] = "x" * 5000
        return "a.tiff", saved(image, "tiff", tiffinfo=tags), way
    if way == "icc":
        return "a.jpg", saved(image, "jpg", icc_profile=bytes(3_000_000)), way
    marker = b"\xff\xfe" if way == "jpg comments" else b"\xff" + bytes([random.choice([0xE1, 0xE2, 0xED])])
    data = saved(image, "jpg")
    return "a.jpg", data[:2] + (marker + struct.pack(">H", 60_002) + b"x" * 60_000) * 60 + data[2:], way


FILES: tuple[tuple[Callable[[Random], Made], int], ...] = (
    *((whole, 12), (oriented, 8), (damaged, 24), (misnamed, 8), (odd_png, 14), (bomb, 10), (moving, 6)),
    *((many_scans, 2), (large, 4), (loaded_with_words, 4)),
)
