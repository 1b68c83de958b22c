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

from e2vpt.errors import DataError, needs, visible

_HEADER = struct.Struct("<QI")
_FOOTER = 4


def read_records(path: Path, wanted: range, total: int) -> Iterator[tuple[int, bytes]]:
    """Offset and payload of the `wanted` records, numbered from 0, one in memory at a time.

    Every length is held to its checksum and to the file's size, every payload that is given to its checksum;
    the number of records, at the end, to `total`.

    Raises:
        DataError: unreadable, not a TFRecord file, damaged, truncated, or with another number of records.
        MissingExtra: google-crc32c is not installed.
    """
    number = offset = 0
    try:
        with path.open("rb") as file:
            end = os.fstat(file.fileno()).st_size
            while offset < end:
                start, size = _next_payload(path, file, offset, end)
                if number in wanted:
                    yield start, _payload(path, file, start, size)
                number, offset = number + 1, start + size + _FOOTER
    except OSError as error:
        raise DataError(f"Cannot read {visible(str(path))}: {error.strerror or error}.") from error
    if number != total:
        raise _broken(path, f"holds {number} records; dataset_info.json says {total}")


def _next_payload(path: Path, file: BinaryIO, offset: int, end: int) -> tuple[int, int]:
    """Where the payload of the record at `offset` begins, and its size."""
    file.seek(offset)
    header, start = file.read(_HEADER.size), offset + _HEADER.size
    if len(header) < _HEADER.size:
        raise _broken(path, f"is truncated: it ends inside the {_HEADER.size} bytes at byte {offset}")
    size, check = _HEADER.unpack(header)
    if _masked_crc32c(header[:8]) != check:
        if offset == 0:
            raise _broken(path, "is not an uncompressed TFRecord file: it begins with no checked length")
        raise _broken(path, f"is damaged: the length at byte {offset} does not match its checksum")
    if size > end - start - _FOOTER:
        raise _broken(path, f"is truncated: it ends inside the {size} bytes at byte {start}")
    return start, size


def _payload(path: Path, file: BinaryIO, start: int, size: int) -> bytes:
    payload, check = file.read(size), file.read(_FOOTER)
    if _masked_crc32c(payload) != int.from_bytes(check, "little"):
        raise _broken(path, f"is damaged: the payload at byte {start} does not match its checksum")
    return payload


def _masked_crc32c(data: bytes) -> int:
    with needs("bench", "TFRecord files are checked by google-crc32c"):
        import google_crc32c
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _broken(path: Path, what: str) -> DataError:
    return DataError(f"{visible(str(path))} {what}. Download, copy or prepare the data set again.")
