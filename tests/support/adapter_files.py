"""Adapter files for tests: taken apart, changed, and sealed again with a checksum that fits."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

import e2vpt
from e2vpt.files.container import read_container, write_container

Header = dict[str, Any]
PREPROCESSING = e2vpt.Preprocessing(image_size=(32, 32), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def edited(source: Path, target: Path, changes: Mapping[str, Any], drop: tuple[str, ...] = ()) -> Path:
    """A copy whose header has these fields, nested ones as "prompts.init"; the checksum fits."""
    header, tensors, _ = read_container(source)
    for name, value in changes.items():
        *outer, last = name.split(".")
        place = header
        for part in outer:
            place = place[part]
        place[last] = value
    for name in drop:
        del header[name]
    write_container(target, header, tensors)
    return target


def with_tensors(source: Path, target: Path, changes: Mapping[str, Tensor | None]) -> Path:
    """A copy with other tensors, None for none; the checksum fits."""
    header, tensors, _ = read_container(source)
    kept = {name: tensor for name, tensor in (tensors | dict(changes)).items() if tensor is not None}
    write_container(target, header, kept)
    return target


def split_file(content: bytes) -> tuple[Header, bytes]:
    """The safetensors header and the bytes behind it."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join_file(outer: Header | bytes, data: bytes) -> bytes:
    """The file of a safetensors header, given as an object or as its very bytes."""
    text = outer if isinstance(outer, bytes) else json.dumps(outer).encode()
    return struct.pack("<Q", len(text)) + text + data
