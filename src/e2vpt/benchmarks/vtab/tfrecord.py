"""TFRecord files, read without TensorFlow.

A record is a length of 8 bytes, its checksum, the payload, and the payload's checksum: CRC-32C, rotated by 15
bits, plus a constant (tensorflow/core/lib/io/record_writer.h and hash/crc32c.h).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from e2vpt.errors import DataError, MissingExtra

Index = npt.NDArray[np.int64]

_HEADER, _FOOTER = 12, 4


def index_records(path: Path) -> Index:
    """Offset and size in bytes of every payload in a TFRecord file, an array [records, 2].

    Every length is held to its checksum and to the file's size. Payloads are not read.

    Raises:
        DataError: unreadable, not a TFRecord file, damaged, or truncated.
        MissingExtra: google-crc32c is not installed.
    """
    try:
        with path.open("rb") as file:
            found = list(_walk(path, file, os.fstat(file.fileno()).st_size))
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}.") from error
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def read_payloads(path: Path, index: Index) -> Iterator[bytes]:
    """The payloads at rows (offset, size) of `index_records`, in turn, one in memory at a time.

    Raises:
        DataError: a payload that does not match its checksum, or a file that ends before it.
    """
    try:
        with path.open("rb") as file:
            for offset, size in index.tolist():
                file.seek(offset)
                framed = file.read(size + _FOOTER)
                if len(framed) < size + _FOOTER:
                    raise _truncated(path, offset, size)
                payload = framed[:size]
                if _masked_crc32c(payload) != int.from_bytes(framed[size:], "little"):
                    raise _damaged(path, f"the payload at byte {offset} does not match its checksum")
                yield payload
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}.") from error


def _walk(path: Path, file: BinaryIO, end: int) -> Iterator[tuple[int, int]]:
    offset = 0
    while offset < end:
        file.seek(offset)
        header = file.read(_HEADER)
        if len(header) < _HEADER:
            raise _truncated(path, offset, _HEADER)
        size, check = struct.unpack("<QI", header)
        if _masked_crc32c(header[:8]) != check:
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


def _masked_crc32c(data: bytes) -> int:
    try:
        import google_crc32c
    except ImportError:
        raise MissingExtra(
            "TFRecord files are checked by google-crc32c: pip install 'e2vpt[bench]'"
        ) from None
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _damaged(path: Path, what: str) -> DataError:
    return DataError(f"{path} is damaged: {what}. Download or prepare the data set again.")


def _truncated(path: Path, offset: int, size: int) -> DataError:
    return DataError(
        f"{path} is truncated: it ends inside the {size} bytes at byte {offset}. "
        "Download or prepare the data set again."
    )
