"""The outer form of every file this package writes: safetensors, one JSON header, one checksum over both.

Reading trusts nothing: sizes are bounded before anything is allocated, and no byte is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from e2vpt.errors import AdapterFormatError
from e2vpt.storage import write_atomic

MAX_HEADER = 4 * 2**20
"""Bytes of a file's header, at the most."""

_HEADER, _CHECKSUM = "e2vpt", "sha256"


def write_container(path: str | Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> int:
    """Write header and tensors atomically; the same input makes the same bytes. Returns the file's bytes."""
    text = json.dumps(header, sort_keys=True, ensure_ascii=False, allow_nan=False)
    plain = {name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)}
    metadata = {_HEADER: text, _CHECKSUM: _checksum(text, plain)}
    content = safetensors.torch.save(plain, metadata=metadata)
    write_atomic(path, content)
    return len(content)


def read_container(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor], int]:
    """Header, tensors and size in bytes of a file made by `write_container`.

    Raises:
        AdapterFormatError: the file is missing, truncated, altered, or was not made by this package.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AdapterFormatError(f"Cannot read {path}: {error.strerror or error}.") from error
    metadata = _metadata(path, content)
    text, checksum = metadata.get(_HEADER), metadata.get(_CHECKSUM)
    if not isinstance(text, str) or not isinstance(checksum, str):
        raise AdapterFormatError(
            f"{path} is a safetensors file, but not one of e2vpt: it has no e2vpt header. "
            "Expected an adapter written by e2vpt.save_adapter or `e2vpt train`."
        )
    try:
        tensors = safetensors.torch.load(content)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        raise _damaged(path, str(error)) from error
    if _checksum(text, tensors) != checksum:
        raise _damaged(path, "its checksum does not match its content")
    return _parse(path, text.encode()), tensors, len(content)


def _metadata(path: Path, content: bytes) -> dict[str, Any]:
    """The free-form part of a safetensors header, after its size has been checked."""
    if len(content) < 8:
        raise _damaged(path, f"it has {len(content)} bytes")
    (size,) = struct.unpack("<Q", content[:8])
    if size > len(content) - 8:
        raise _damaged(
            path, f"its header should have {size} bytes and the file ends after {len(content) - 8}"
        )
    if size > MAX_HEADER:
        raise _damaged(path, f"its header has {size} bytes, more than the {MAX_HEADER} an adapter may have")
    metadata = _parse(path, content[8 : 8 + size]).get("__metadata__", {})
    return metadata if isinstance(metadata, dict) else {}


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise _damaged(path, "its header is not a JSON object")
    return value


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    """sha256 over the header's text and every tensor's name, dtype, shape and bytes."""
    digest = hashlib.sha256(text.encode(errors="surrogatepass"))
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode(errors="surrogatepass"))
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _damaged(path: Path, what: str) -> AdapterFormatError:
    return AdapterFormatError(
        f"{path} is damaged or not an e2vpt file: {what}. "
        "Copy it again from where it was made, or train again."
    )
