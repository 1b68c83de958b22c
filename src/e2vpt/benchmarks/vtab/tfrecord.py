"""TFRecord files and the `tf.train.Example` messages inside them, read without TensorFlow or protobuf.

A record is a length of 8 bytes, its checksum, the payload, and the payload's checksum. The checksums are
CRC-32C, masked (RFC 3720, B.4; tensorflow/core/lib/io/record_writer.h). A payload holds one message of
tensorflow/core/example/example.proto.
"""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from e2vpt.errors import DataError

Index = npt.NDArray[np.int64]
Kind = Literal["none", "bytes", "floats", "ints"]

_HEADER, _FOOTER = 12, 4
_POLYNOMIAL = 0x82F63B78
_ONES = 0xFFFFFFFF
_BLOCK = 1024
_BLOCKS_AT_ONCE = 64
# Below this many bytes numpy's overhead is more than the loop's.
_SHORT = 128
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_FIXED = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}
_KINDS: dict[int, Kind] = {1: "bytes", 2: "floats", 3: "ints"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """`size` bytes at `offset`."""

    offset: int
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Feature:
    """The values of one feature, all of one kind; bytes as their places in the payload, never copied."""

    kind: Kind = "none"
    spans: tuple[Span, ...] = ()
    floats: tuple[float, ...] = ()
    ints: tuple[int, ...] = ()


def index_records(path: Path) -> Index:
    """Offset and size in bytes of every payload in a TFRecord file, an array [records, 2].

    Every length is held to its checksum and to the file's size. Payloads are not read.

    Raises:
        DataError: unreadable, not a TFRecord file, damaged, or truncated.
    """
    try:
        with path.open("rb") as file:
            found = list(_walk(path, file, os.fstat(file.fileno()).st_size))
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}.") from error
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def read_payloads(path: Path, index: Index, *, checksums: bool = True) -> Iterator[bytes]:
    """The payloads at rows (offset, size) of `index_records`, in turn, one in memory at a time.

    Raises:
        DataError: a payload that does not match its checksum (not looked at without `checksums`), or a file
            that ends before it.
    """
    try:
        with path.open("rb") as file:
            for offset, size in index.tolist():
                file.seek(offset)
                framed = file.read(size + _FOOTER)
                if len(framed) < size + _FOOTER:
                    raise _truncated(path, offset, size)
                payload = framed[:size]
                if checksums and masked_crc32c(payload) != int.from_bytes(framed[size:], "little"):
                    raise _damaged(path, f"the payload at byte {offset} does not match its checksum")
                yield payload
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}.") from error


def masked_crc32c(data: bytes) -> int:
    """`crc32c` the way TFRecord files store it: rotated by 15 bits, plus a constant."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & _ONES


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum of RFC 3720: 32 bits.

    Checksums are linear, so each byte adds a term that depends on its value and on how many bytes follow it;
    the terms of a block come from one table [block, 256], block by block.
    """
    if len(data) < _SHORT:
        return _crc32c_of_few(data)
    flat, first_four = _tables()
    starts = np.arange(_BLOCK, dtype=np.int64) * 256
    # Zeros in front change nothing, and starting from ones is the same as inverting the first four bytes.
    begin = -len(data) % _BLOCK
    padded = np.zeros(begin + len(data), np.uint8)
    padded[begin:] = np.frombuffer(data, np.uint8)
    padded[begin : begin + 4] ^= 0xFF
    blocks = padded.reshape(-1, _BLOCK)
    state = 0
    for at in range(0, len(blocks), _BLOCKS_AT_ONCE):
        terms = flat.take(blocks[at : at + _BLOCKS_AT_ONCE] + starts)
        for crc in np.bitwise_xor.reduce(terms, axis=1).tolist():
            a, b, c, d = state.to_bytes(4, "little")
            state = crc ^ first_four[0][a] ^ first_four[1][b] ^ first_four[2][c] ^ first_four[3][d]
    return state ^ _ONES


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


def _walk(path: Path, file: BinaryIO, end: int) -> Iterator[tuple[int, int]]:
    offset = 0
    while offset < end:
        file.seek(offset)
        header = file.read(_HEADER)
        if len(header) < _HEADER:
            raise _truncated(path, offset, _HEADER)
        size, check = struct.unpack("<QI", header)
        if masked_crc32c(header[:8]) != check:
            if offset == 0:
                raise DataError(
                    f"{path} is not a TFRecord file: its first 12 bytes are no length with a checksum. "
                    "Expected an uncompressed TFRecord file; download or prepare the data set again."
                )
            raise _damaged(path, f"the length at byte {offset} does not match its checksum")
        start = offset + _HEADER
        if size > end - start - _FOOTER:
            raise _truncated(path, start, size)
        yield start, size
        offset = start + size + _FOOTER


def _damaged(path: Path, what: str) -> DataError:
    return DataError(f"{path} is damaged: {what}. Download or prepare the data set again.")


def _truncated(path: Path, offset: int, size: int) -> DataError:
    return DataError(
        f"{path} is truncated: it ends inside the {size} bytes at byte {offset}. "
        "Download or prepare the data set again."
    )


def _crc32c_of_few(data: bytes) -> int:
    table = _byte_table()
    state = _ONES
    for byte in data:
        state = (state >> 8) ^ table[(state ^ byte) & 0xFF]
    return state ^ _ONES


@functools.cache
def _byte_table() -> tuple[int, ...]:
    """What a byte adds to the checksum when nothing follows it."""
    table = []
    for byte in range(256):
        term = byte
        for _ in range(8):
            term = (term >> 1) ^ (_POLYNOMIAL if term & 1 else 0)
        table.append(term)
    return tuple(table)


@functools.cache
def _tables() -> tuple[npt.NDArray[np.uint32], tuple[tuple[int, ...], ...]]:
    """What byte [i] of a block adds, flat [block * 256], and its first four rows as plain numbers."""
    last = np.array(_byte_table(), np.uint32)
    table = np.empty((_BLOCK, 256), np.uint32)
    table[-1] = last
    for row in range(_BLOCK - 2, -1, -1):
        table[row] = (table[row + 1] >> np.uint32(8)) ^ last[table[row + 1] & np.uint32(0xFF)]
    return table.ravel(), tuple(tuple(row) for row in table[:4].tolist())


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
    kind: Kind = "none"
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
