"""Prepared TFDS directories, written from the format's definition and independently of the reader."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

Value = bytes | list[bytes] | list[float] | list[int]


def crc32c(data: bytes) -> int:
    """Bit by bit, as the polynomial division that it is."""
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ 0x82F63B78 if state & 1 else state >> 1
    return state ^ 0xFFFFFFFF


def fast_crc32c(data: bytes) -> int:
    """The same by a table, for whole data sets."""
    state = 0xFFFFFFFF
    for byte in data:
        state = _LAST[(state ^ byte) & 0xFF] ^ (state >> 8)
    return state ^ 0xFFFFFFFF


def _last(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ 0x82F63B78 if byte & 1 else byte >> 1
    return byte


_LAST = [_last(i) for i in range(256)]


def masked(crc: int) -> bytes:
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def frame(payload: bytes) -> bytes:
    length = struct.pack("<Q", len(payload))
    return length + masked(fast_crc32c(length)) + payload + masked(fast_crc32c(payload))


def write_records(path: Path, payloads: Sequence[bytes]) -> Path:
    path.write_bytes(b"".join(map(frame, payloads)))
    return path


def varint(value: int) -> bytes:
    value %= 1 << 64
    groups = []
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def field(number: int, content: bytes) -> bytes:
    """A field of bytes, text or a message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def feature(value: Value, packed: bool = True) -> bytes:
    """A `Feature` message; an empty list counts as one of numbers."""
    if isinstance(value, bytes):
        value = [value]
    if value and isinstance(value[0], bytes):
        return field(1, b"".join(field(1, item) for item in value))  # type: ignore[arg-type]
    if value and isinstance(value[0], float):
        floats = [struct.pack("<f", number) for number in value]
        return field(2, field(1, b"".join(floats)) if packed else b"".join(b"\x0d" + x for x in floats))
    ints = [varint(number) for number in value]  # type: ignore[arg-type]
    return field(3, field(1, b"".join(ints)) if packed else b"".join(b"\x08" + x for x in ints))


def example(features: Mapping[str, Value], packed: bool = True) -> bytes:
    """A `tf.train.Example` message."""
    entries = [field(1, name.encode()) + field(2, feature(v, packed)) for name, v in features.items()]
    return field(1, b"".join(field(1, entry) for entry in entries))


def png(seed: int, mode: str = "RGB") -> bytes:
    """A PNG of 2 x 2 pixels that differs from seed to seed."""
    image = Image.new(mode, (2, 2), (seed % 256, seed // 256 % 256, 77) if mode == "RGB" else seed % 2)
    written = io.BytesIO()
    image.save(written, "PNG")
    return written.getvalue()


def write_prepared(
    folder: Path,
    name: str,
    splits: Mapping[str, Sequence[Sequence[bytes]]],
    classes: Mapping[str, int] | None = None,
) -> Path:
    """A version's folder: payloads by split and shard, its JSON files as TFDS 4.5 and later write them."""
    folder.mkdir(parents=True)
    for split, shards in splits.items():
        for i, payloads in enumerate(shards):
            write_records(folder / f"{name}-{split}.tfrecord-{i:05d}-of-{len(shards):05d}", payloads)
    info = {
        "citation": "@misc{x}",
        "downloadSize": "2000",
        "fileFormat": "tfrecord",
        "location": {"urls": ["https://example.org/"]},
        "moduleName": f"tensorflow_datasets.image_classification.{name}",
        "name": name,
        "splits": [
            {
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "name": split,
                "numBytes": str(sum(len(payload) for payloads in shards for payload in payloads)),
                "shardLengths": [str(len(payloads)) for payloads in shards],
            }
            for split, shards in splits.items()
        ],
        "version": folder.name,
    }
    (folder / "dataset_info.json").write_text(json.dumps(info, indent=2))
    base = "tensorflow_datasets.core.features"
    features: dict[str, object] = {
        "image": {"image": {"dtype": "uint8", "shape": {}}, "pythonClassName": f"{base}.image_feature.Image"}
    }
    for key, count in (classes or {}).items():
        kind = f"{base}.class_label_feature.ClassLabel"
        features[key] = {"classLabel": {"numClasses": str(count)}, "pythonClassName": kind}
    top = {"featuresDict": {"features": features}, "pythonClassName": f"{base}.features_dict.FeaturesDict"}
    (folder / "features.json").write_text(json.dumps(top, indent=4))
    return folder
