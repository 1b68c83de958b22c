"""The outer form of every file this package writes: safetensors, one JSON header, one checksum over both.

The header is the one metadata entry `e2vpt`: sha256 in hex, a space, JSON in ASCII. Reading trusts nothing:
sizes and counts are bounded before anything is allocated, and no byte is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import stat
import struct
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from torch import Tensor

from e2vpt.errors import AdapterFormatError, ConfigError, check_type, in_brief
from e2vpt.files.atomic import write_atomic

MAX_HEADER = 4 * 2**20
"""Bytes of a file's header, at the most."""

_ENTRY = "e2vpt"


def write_container(
    path: str | Path,
    header: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    check: Callable[[Path], object] = lambda temporary: None,
) -> int:
    """Write header and tensors atomically; the same input makes the same bytes. Returns the file's bytes.

    `check` as in `write_atomic`.

    Raises:
        ConfigError: the header is not JSON, or more than `read_container` would read.
        RunError: the file cannot be written.
    """
    try:
        text = json.dumps(header, allow_nan=False)  # unsorted: a history keeps the order of its columns
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The header of {path} cannot be stored as JSON: {error}.") from error
    plain = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    # A single entry: safetensors writes several in random order.
    content = safetensors.torch.save(plain, metadata={_ENTRY: f"{_checksum(text, plain)} {text}"})
    (length,) = struct.unpack("<Q", content[:8])
    problem = _excess(content[8 : 8 + length].decode(), len(content))
    if problem:
        raise ConfigError(f"{path} cannot be stored: {problem}. Use fewer or shorter names.")
    write_atomic(path, content, check)
    return len(content)


def read_container(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor], int]:
    """Header, tensors and size in bytes of a file made by `write_container`.

    Raises:
        AdapterFormatError: the file is missing, truncated, altered, or was not made by this package.
    """
    check_type("path", path, str, PathLike)
    path = Path(path)
    try:
        sealed, content = _read(path)
    except AdapterFormatError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise AdapterFormatError(
            f"Cannot read {path}: {getattr(error, 'strerror', None) or error}."
        ) from error
    checksum, _, text = sealed.partition(" ")
    try:
        # Sorted: safetensors gives them in random order, and the first problem found is the one reported.
        tensors = dict(sorted(safetensors.torch.load(content).items()))
        intact = _checksum(text, tensors) == checksum
    except Exception as error:  # what parsers raise on damaged bytes is open-ended
        raise _damaged(path, str(error)) from error
    if not intact:
        raise _damaged(path, "its checksum does not match its content")
    return _parse(path, text, len(content)), tensors, len(content)


def _read(path: Path) -> tuple[str, bytes]:
    """The sealed header and the whole file; a file that is not ours is not read to its end."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its other end
        raise AdapterFormatError(f"Cannot read {path}: it is not a file. Expected an adapter file.")
    with path.open("rb") as file:
        metadata = _outer_header(path, file, status.st_size).get("__metadata__")
        sealed = metadata.get(_ENTRY) if isinstance(metadata, dict) else None
        if not isinstance(sealed, str):
            raise AdapterFormatError(
                f"{path} is a safetensors file, but not one of e2vpt: it has no e2vpt header. "
                "Expected an adapter written by e2vpt.save_adapter or `e2vpt train`."
            )
        file.seek(0)
        return sealed, file.read()


def _outer_header(path: Path, file: BinaryIO, size: int) -> dict[str, Any]:
    """The safetensors header of a file of `size` bytes; its own size is checked first."""
    prefix = file.read(8)
    if len(prefix) < 8:
        raise _damaged(path, f"it has {len(prefix)} bytes")
    (length,) = struct.unpack("<Q", prefix)
    if length > size - 8:
        raise _damaged(path, f"its header should have {length} bytes and the file ends after {size - 8}")
    if length > MAX_HEADER:
        raise _damaged(path, f"its header has {length} bytes, more than the {MAX_HEADER} an adapter may have")
    return _parse(path, file.read(length).decode("ascii", errors="replace"), size)


def _parse(path: Path, text: str, size: int) -> dict[str, Any]:
    problem = _excess(text, size)
    if problem:
        raise _damaged(path, problem)
    try:
        value = json.loads(text, object_pairs_hook=_without_doubles, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise _damaged(path, "its header is not a JSON object")
    return value


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; of two values under one name, readers would not agree which counts."""
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return made


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _excess(text: str, size: int) -> str:
    """What would make this JSON cost far more memory than the file of `size` bytes it stands in, or nothing.

    Two bytes of JSON can become hundreds as objects, and one character beyond ASCII makes a whole text four
    times as large. Real headers have one class name for a head row of many bytes.
    """
    if len(text) > MAX_HEADER:
        return f"its header has {len(text)} bytes, more than the {MAX_HEADER} an adapter may have"
    if not text.isascii():
        return "its header is not JSON in ASCII"
    values, most = sum(map(text.count, ",[{")), 4_000 + size // 50
    return f"its header has about {values} values, more than the {most} it needs" if values > most else ""


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    """sha256 over the header's text and every tensor's name, dtype, shape and bytes."""
    digest = hashlib.sha256(text.encode(errors="surrogatepass"))
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode(errors="surrogatepass"))
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _damaged(path: Path, what: str) -> AdapterFormatError:
    return AdapterFormatError(
        f"{path} is damaged or not an e2vpt file: {in_brief(what)}. "
        "Copy it again from where it was made, or train again."
    )
