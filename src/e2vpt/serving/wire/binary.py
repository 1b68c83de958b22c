"""The binary tensor extension of the Open Inference Protocol: JSON first, then tensors as they lie in memory.

The header `Inference-Header-Content-Length` says how long the JSON is. An element of a BYTES tensor is its
length, four bytes little-endian, and its bytes.
Source: https://github.com/kserve/open-inference-protocol, extension binary_tensor_data.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from e2vpt.serving.refusals import Refused

LENGTH_HEADER = "Inference-Header-Content-Length"


def split_body(body: bytes, json_length: str | None) -> tuple[bytes, bytes]:
    """The JSON of a body and what follows it; `json_length` is the header, None where there is none.

    Raises:
        Refused: 400, the header is no length of a part of this body.
    """
    if json_length is None:
        return body, b""
    fits = json_length.isascii() and json_length.isdecimal() and len(json_length) < 20
    if not fits or int(json_length) > len(body):
        raise Refused(400, f"{LENGTH_HEADER} is {json_length[:40]!r} for a body of {len(body)} bytes.")
    return body[: int(json_length)], body[int(json_length) :]


def read_strings(raw: bytes, count: int) -> list[bytes]:
    """The elements of a BYTES tensor.

    Raises:
        Refused: 400, not exactly `count` elements.
    """
    found: list[bytes] = []
    at = 0
    while at < len(raw) and len(found) < count:
        if at + 4 > len(raw):
            raise Refused(400, f"The binary tensor ends inside the length of element {len(found)}.")
        (length,) = struct.unpack_from("<I", raw, at)
        at += 4
        if at + length > len(raw):
            raise Refused(
                400, f"Element {len(found)} has {length} bytes, the binary tensor ends after {len(raw) - at}."
            )
        found.append(raw[at : at + length])
        at += length
    if len(found) != count or at != len(raw):
        raise Refused(
            400, f"{len(found)} elements in {at} of {len(raw)} bytes; expected {count}, as the shape says."
        )
    return found


def write_strings(values: Sequence[bytes]) -> bytes:
    """The elements of a BYTES tensor, as `read_strings` takes them."""
    return b"".join(struct.pack("<I", len(value)) + value for value in values)
