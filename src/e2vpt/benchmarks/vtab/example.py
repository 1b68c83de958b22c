"""`tf.train.Example` messages, read without protobuf (tensorflow/core/example/example.proto)."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from e2vpt.errors import DataError

ValueKind = Literal["none", "bytes", "floats", "ints"]
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_FIXED = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}
_KINDS: dict[int, ValueKind] = {1: "bytes", 2: "floats", 3: "ints"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """`size` bytes at `offset`."""

    offset: int
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Feature:
    """The values of one feature, all of one kind; bytes as their places in the payload, never copied."""

    kind: ValueKind = "none"
    spans: tuple[Span, ...] = ()
    floats: tuple[float, ...] = ()
    ints: tuple[int, ...] = ()


def parse_example(payload: bytes, where: str, wanted: Collection[str] | None = None) -> dict[str, Feature]:
    """The features of a `tf.train.Example`, by name; only those `wanted`, where given.

    Raises:
        DataError: the bytes are no such message; names `where` they come from.
    """
    try:
        found: dict[str, tuple[int, int]] = {}
        for number, wire, start, end in _fields(payload, 0, len(payload)):
            if (number, wire) == (1, _LENGTH):
                found.update(_named_features(payload, start, end))
        chosen = found.keys() if wanted is None else found.keys() & set(wanted)
        return {name: _feature(payload, *found[name]) for name in found if name in chosen}
    except ValueError as error:
        raise DataError(
            f"{where} is not a tf.train.Example: {error}. Download or prepare the data set again."
        ) from error


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, and first and last byte (excluded) of the value of each field of a message."""
    while at < end:
        key, at = _varint(data, at, end)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            _, stop = _varint(data, at, end)
        elif wire == _LENGTH:
            size, at = _varint(data, at, end)
            stop = at + size
        elif wire in _FIXED:
            stop = at + _FIXED[wire]
        else:
            raise ValueError(f"wire type {wire} before byte {at}")
        if stop > end or number == 0:
            raise ValueError(f"a field at byte {at} that runs over its message, or has number 0")
        yield number, wire, at, stop
        at = stop


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A number of 64 bits in groups of 7, lowest first, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise ValueError(f"it ends inside a number at byte {at}")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise ValueError(f"a number of more than 10 bytes before byte {at}")


def _named_features(data: bytes, at: int, end: int) -> Iterator[tuple[str, tuple[int, int]]]:
    """Name and place of each feature in a `Features` message; of a name given twice the later one counts."""
    for number, wire, start, stop in _fields(data, at, end):
        if (number, wire) == (1, _LENGTH):
            name, place = b"", (start, start)
            for inner, inner_wire, first, last in _fields(data, start, stop):
                if (inner, inner_wire) == (1, _LENGTH):
                    name = data[first:last]
                elif (inner, inner_wire) == (2, _LENGTH):
                    place = (first, last)
            yield name.decode("utf-8"), place


def _feature(data: bytes, at: int, end: int) -> Feature:
    """A `Feature` message, which holds one list; of several kinds the last one counts."""
    kind: ValueKind = "none"
    values: list[tuple[int, int, int]] = []
    for number, wire, start, stop in _fields(data, at, end):
        if number in _KINDS and wire == _LENGTH:
            values = values if kind == _KINDS[number] else []
            kind = _KINDS[number]
            values += [(w, a, b) for n, w, a, b in _fields(data, start, stop) if n == 1]
    if kind == "bytes":
        spans = tuple(Span(offset=a, size=b - a) for wire, a, b in values if wire == _LENGTH)
        return Feature(kind=kind, spans=spans)
    if kind == "floats":
        return Feature(kind=kind, floats=tuple(x for value in values for x in _floats(data, *value)))
    if kind == "ints":
        return Feature(kind=kind, ints=tuple(x for value in values for x in _ints(data, *value)))
    return Feature()


def _floats(data: bytes, wire: int, at: int, end: int) -> tuple[float, ...]:
    """One value, or several packed."""
    if wire not in (_LENGTH, _FOUR_BYTES):
        return ()
    if (end - at) % 4:
        raise ValueError(f"{end - at} bytes of 4-byte floats at byte {at}")
    return struct.unpack(f"<{(end - at) // 4}f", data[at:end])


def _ints(data: bytes, wire: int, at: int, end: int) -> Iterator[int]:
    """One value, or several packed; signed 64 bits."""
    while wire in (_LENGTH, _VARINT) and at < end:
        value, at = _varint(data, at, end)
        yield value - (1 << 64) if value >> 63 else value
