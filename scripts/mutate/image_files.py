"""Image files of every kind, whole, odd and damaged, as bytes under a name."""

from __future__ import annotations

import io
import struct
import zlib
from random import Random
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

Made = tuple[str, bytes, str]
"""The file's name, its bytes, what it is."""

_WAYS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "png": [(m, {}) for m in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")],
    "jpg": [
        *((m, {"quality": 95}) for m in ("L", "RGB", "CMYK")),
        *(("RGB", {"progressive": True}), ("CMYK", {"progressive": True}), ("RGB", {"subsampling": 0})),
        *(("RGB", {"restart_marker_blocks": 1}), ("RGB", {"keep_rgb": True})),
    ],
    "gif": [("1", {}), ("L", {}), ("P", {"transparency": 3}), ("RGB", {}), ("RGBA", {})],
    "webp": [("RGB", {}), ("RGBA", {"lossless": True}), ("RGBA", {"quality": 30}), ("L", {})],
    "bmp": [(m, {}) for m in ("1", "L", "P", "RGB", "RGBA")],
    "tiff": [
        *((m, {}) for m in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F")),
        *(("RGB", {"compression": c}) for c in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")),
        *(("1", {"compression": "group4"}), ("RGB", {"big_tiff": True}), ("I;16B", {})),
    ],
    "ppm": [("L", {}), ("RGB", {}), ("1", {}), ("I", {})],
    "tga": [("L", {}), ("RGB", {}), ("RGBA", {"compression": "tga_rle"}), ("P", {})],
    "sgi": [("L", {}), ("RGB", {})],
    "pcx": [("1", {}), ("L", {}), ("P", {}), ("RGB", {})],
    "avif": [("RGB", {}), ("RGBA", {})],
    "jp2": [("RGB", {}), ("RGBA", {}), ("L", {})],
}


def picture(random: Random, mode: str, size: tuple[int, int] | None = None) -> Image.Image:
    width, height = size or random.choice(
        [(random.randint(1, 90), random.randint(1, 90)), (64, 48), (1, 1), (1, 300), (700, 2), (33, 31)]
    )
    noise = np.random.default_rng(random.getrandbits(32))
    wide = {"I;16": np.uint16, "I;16B": ">u2", "I": np.int32, "F": np.float32}
    if mode in wide:
        top = random.choice([1.0, 1.0, 255.0]) if mode == "F" else random.choice([65535, 65535, 200, 70_000])
        values = noise.random((height, width)) * (min(top, 65535) if mode.startswith("I;") else top)
        return Image.fromarray(values.astype(wide[mode]))
    smooth = np.add.outer(np.arange(height) * 3, np.arange(width) * 5)[..., None] + np.array([0, 80, 160])
    pixels = (smooth + noise.integers(0, 40, smooth.shape)).astype(np.uint8)
    image = Image.fromarray(pixels)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(noise.integers(0, 256, (height, width), dtype=np.uint8)))
    if mode == "LAB":
        return Image.frombytes("LAB", image.size, image.tobytes())
    return image.convert(mode)


def saved(image: Image.Image, suffix: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(
        out, {"jpg": "JPEG", "jp2": "JPEG2000", "tga": "TGA", "pcx": "PCX"}.get(suffix, suffix), **options
    )
    return out.getvalue()


def whole(random: Random) -> Made:
    """A whole file of any format and mode."""
    suffix = random.choice(list(_WAYS))
    mode, options = random.choice(_WAYS[suffix])
    return (
        f"a.{suffix}",
        saved(picture(random, mode), suffix, **options),
        f"whole {suffix} {mode} {options}",
    )


def oriented(random: Random) -> Made:
    """Every EXIF orientation, and values that are none; EXIF that is broken, or huge."""
    suffix, value = random.choice(["jpg", "png", "webp", "tiff"]), random.choice([*range(10), 255, 65535])
    exif = Image.Exif()
    exif[0x112] = value
    if random.random() < 0.3:
        exif[0x10E] = "x" * 60_000
    data = exif.tobytes()
    if random.random() < 0.3 and suffix != "tiff":
        data = data[: random.randrange(6, len(data))]
    mode = random.choice(["RGB", "L", "RGB"])
    return f"a.{suffix}", saved(picture(random, mode), suffix, exif=data), f"EXIF {value} in {suffix}"


def damaged(random: Random) -> Made:
    """A file cut off, with bits turned, bytes put in or taken out."""
    name, data, what = (oriented if random.random() < 0.2 else whole)(random)
    way, at = random.choice(["cut", "bits", "zeros", "in", "out", "head"]), random.randrange(len(data))
    changed = bytearray(data)
    if way == "cut":
        changed = changed[:at]
    elif way == "bits":
        for _ in range(random.choice([1, 3, 20])):
            changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
    elif way == "zeros":
        changed[at : at + 40] = bytes(len(changed[at : at + 40]))
    elif way == "in":
        changed[at:at] = random.randbytes(random.choice([1, 9, 300]))
    elif way == "out":
        del changed[at : at + random.choice([1, 9, 300])]
    else:
        at = random.randrange(min(64, len(data)))
        changed[at] = random.choice([0, 1, 127, 128, 255])
    return name, bytes(changed), f"{what}, {way}"


def misnamed(random: Random) -> Made:
    """The wrong suffix, no picture at all, nothing at all."""
    _, data, what = whole(random)
    others = {
        "text": b"hello\n" * 40,
        "nothing": b"",
        "zeros": bytes(5000),
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><rect/></svg>",
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
        "pdf": b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n",
        "zip": b"PK\x03\x04" + bytes(200),
        "heic": struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(300),
        "what": data,
        "noise": random.randbytes(3000),
    }
    kind = random.choice(list(others))
    name = random.choice(
        ["a.png", "a.JPG", "a.gif", "a.webp", "a.tif", "a.bmp", "a.jpeg", "a.dng", "a.heic", "a.icb"]
    )
    return name, others[kind], f"{what if kind == 'what' else kind} as {name}"


def odd_png(random: Random) -> Made:
    """PNG of every depth and colour type, with chunks that nobody needs."""
    depth, colour = random.choice(
        [
            (1, 0),
            (2, 0),
            (4, 0),
            (8, 0),
            (16, 0),
            (8, 2),
            (16, 2),
            (1, 3),
            (2, 3),
            (4, 3),
            (8, 3),
            (8, 4),
            (16, 4),
        ]
    )
    width, height = random.choice([(9, 7), (1, 5), (40, 1), (31, 33)])
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row = -(-width * bits // 8)
    raw = b"".join(b"\0" + random.randbytes(row) for _ in range(height))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))]
    way = random.choice(
        ["plain", "trns", "texts", "ztxt", "iccp", "many", "exif", "gamma", "crc", "animated"]
    )
    if colour == 3:
        chunks.append((b"PLTE", random.randbytes(3 * 2 ** min(depth, 8))))
    if way == "trns":
        length = {0: 2, 2: 6, 3: random.randint(1, 2 ** min(depth, 8))}.get(colour, 3)
        first = raw[1:3] if depth == 16 else bytes([0, random.randrange(2**depth)])
        chunks.append((b"tRNS", first if colour == 0 else random.randbytes(length)))
    elif way == "texts":
        chunks += [(b"tEXt", b"k\0" + b"v" * 300_000) for _ in range(12)]
    elif way == "ztxt":
        chunks += [(b"zTXt", b"k\0\0" + zlib.compress(bytes(60_000_000))) for _ in range(3)]
    elif way == "iccp":
        chunks.append((b"iCCP", b"k\0\0" + zlib.compress(bytes(90_000_000))))
    elif way == "many":
        chunks += [(b"prVt", b"x")] * 60_000
    elif way == "exif":
        chunks.append(
            (b"eXIf", random.choice([b"", b"MM", b"MM\0*\0\0\0\x08\xff\xff" + random.randbytes(50)]))
        )
    elif way == "gamma":
        chunks += [(b"gAMA", struct.pack(">I", 0)), (b"pHYs", b"\0" * 9), (b"cHRM", b"\xff" * 31)]
    elif way == "animated":
        chunks.append((b"acTL", struct.pack(">II", random.choice([0, 1, 2**31]), 0)))
    data = zlib.compress(raw)
    chunks += [(b"IDAT", data[i : i + 10]) for i in range(0, len(data), 10)] + [(b"IEND", b"")]
    return "a.png", _png(chunks, broken=way == "crc"), f"png depth {depth} colour {colour} {way}"


def _png(chunks: list[tuple[bytes, bytes]], broken: bool = False) -> bytes:
    made = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        crc = zlib.crc32(kind + data) ^ (1 if broken and kind == b"IDAT" else 0)
        made += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)
    return made


def bomb(random: Random) -> Made:
    """Small files that say they are large."""
    w, h = random.choice(
        [(50_000, 50_000), (65_535, 65_535), (2**31 - 1, 1), (1, 89_000_000), (9_500, 9_500), (0, 5)]
    )
    way = random.choice(["png", "png whole", "bmp", "gif", "tiff", "jpg", "pcx", "ppm", "webp", "tga"])
    small = saved(picture(random, "RGB", (16, 16)), way.split()[0])
    if way == "png":
        made = _png(
            [(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(99)))]
        )
    elif way == "png whole":
        w, h = random.choice([(1, 20_000), (1, 2_000_000), (60_000, 1), (3, 900_000)])
        made = saved(Image.new(random.choice(["L", "1", "RGB", "RGBA"]), (w, h)), "png")
    elif way == "bmp":
        made = small[:18] + struct.pack("<ii", w, random.choice([h, -h])) + small[26:]
    elif way == "gif":
        made = small[:6] + struct.pack("<HH", w % 65536, h % 65536) + small[10:]
    elif way == "jpg":
        at = small.index(b"\xff\xc0") + 5
        made = small[:at] + struct.pack(">HH", h % 65536, w % 65536) + small[at + 4 :]
    elif way == "ppm":
        made = f"P{random.choice('14256')} {w} {h} 255\n".encode() + bytes(200)
    elif way == "tiff":
        info = TiffImagePlugin.ImageFileDirectory_v2()
        info[271] = "x"
        made = saved(picture(random, "L", (16, 16)), "tiff", tiffinfo=info)
        made = made.replace(struct.pack("<HHIHH", 256, 3, 1, 16, 0), struct.pack("<HHII", 256, 4, 1, w), 1)
        made = made.replace(
            struct.pack("<HHII", 256, 4, 1, 16), struct.pack("<HHII", 256, 4, 1, w % 2**32), 1
        )
        made = made.replace(
            struct.pack("<HHII", 257, 4, 1, 16), struct.pack("<HHII", 257, 4, 1, h % 2**32), 1
        )
    else:
        at = {"pcx": 8, "webp": 24, "tga": 12}[way]
        made = small[:at] + struct.pack("<HH", w % 65536, h % 65536) + small[at + 4 :]
    return f"a.{way.split()[0]}", made, f"{w}x{h} {way}"


def moving(random: Random) -> Made:
    """Animations and files of several pages."""
    suffix = random.choice(["gif", "webp", "png", "tiff", "jpg"])
    mode = random.choice(["RGB", "L", "P"]) if suffix == "gif" else "RGB"
    frames = [
        picture(random, mode, (20, 14)) for _ in range(random.choice([2, 5, 300]) if suffix == "gif" else 3)
    ]
    options: dict[str, Any] = {"save_all": True, "append_images": frames[1:]}
    if suffix == "gif":
        options |= {"disposal": random.choice([0, 1, 2, 3]), "transparency": 0}
    if suffix == "jpg":
        out = io.BytesIO()
        frames[0].save(out, "MPO", **options)
        return "a.jpg", out.getvalue(), "MPO"
    return f"a.{suffix}", saved(frames[0], suffix, **options), f"{len(frames)} frames {suffix} {mode}"
