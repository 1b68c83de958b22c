"""TFRecord files are read in place, held to both checksums, and never trusted."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from support import tfds_for_tests as written

from e2vpt.benchmarks.vtab.tfrecord import read_records
from e2vpt.errors import DataError, MissingExtra

_PAYLOADS = [b"", b"one", np.random.default_rng(0).bytes(3000), b"\0" * 200]


def _records(path: Path, wanted: range = range(9), total: int = 0) -> list[tuple[int, bytes]]:
    return list(read_records(path, wanted, total))


def test_records_are_found_and_come_out_as_they_went_in(tmp_path: Path) -> None:
    path = written.write_records(tmp_path / "a.tfrecord", _PAYLOADS)
    whole = list(zip((12, 28, 47, 3063), _PAYLOADS, strict=True))
    assert _records(path, range(4), 4) == whole
    assert _records(path, range(2, 3), 4) == whole[2:3]
    content = path.read_bytes()
    assert all(content[offset : offset + len(payload)] == payload for offset, payload in whole)


def test_a_file_without_records(tmp_path: Path) -> None:
    assert _records(written.write_records(tmp_path / "a", [])) == []


@pytest.mark.parametrize("total", [3, 5])
def test_records_are_counted(tmp_path: Path, total: int) -> None:
    path = written.write_records(tmp_path / "a", _PAYLOADS)
    with pytest.raises(DataError, match=f"a holds 4 records; dataset_info.json says {total}"):
        _records(path, range(1), total)


@pytest.mark.parametrize("content", [b"PK\x03\x04 and some more", b"\0" * 100, b"\x1f\x8b" + b"x" * 50])
def test_other_files_are_no_tfrecords(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError, match=r"a is not an uncompressed TFRecord file: it begins with no checked"):
        _records(tmp_path / "a")


@pytest.mark.parametrize("missing", range(1, 20))
def test_truncated_files(tmp_path: Path, missing: int) -> None:
    path = written.write_records(tmp_path / "a", [b"first", b"2nd"])
    path.write_bytes(path.read_bytes()[:-missing])
    said = r"a is truncated: it ends inside the (3|12) bytes at byte (33|21)\."
    with pytest.raises(DataError, match="holds 1 records" if missing == 19 else said):
        _records(path, total=2)


def test_a_damaged_length(tmp_path: Path) -> None:
    content = bytearray(written.frame(b"first") + written.frame(b"second"))
    content[21] ^= 1
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError, match="a is damaged: the length at byte 21 does not match its checksum"):
        _records(tmp_path / "a")


def test_a_length_beyond_the_file_allocates_nothing(tmp_path: Path) -> None:
    length = struct.pack("<Q", 1 << 60)
    (tmp_path / "a").write_bytes(length + written.masked(written.crc32c(length)) + b"little")
    with pytest.raises(DataError, match=f"ends inside the {1 << 60} bytes at byte 12"):
        _records(tmp_path / "a")


@pytest.mark.parametrize("at", [47, 1000, 3046, 3047, 3050])
def test_a_damaged_payload(tmp_path: Path, at: int) -> None:
    path = written.write_records(tmp_path / "a", _PAYLOADS)
    content = bytearray(path.read_bytes())
    content[at] ^= 0x40
    path.write_bytes(content)
    assert len(_records(path, range(2), 4)) == 2
    with pytest.raises(DataError, match="a is damaged: the payload at byte 47 does not match its checksum"):
        _records(path, range(4), 4)


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Cannot read .*gone: No such file"):
        _records(tmp_path / "gone")
    with pytest.raises(DataError, match=r"Cannot read .*\\x1b\[31m: No such file"):
        _records(tmp_path / "\x1b[31m")


def test_the_checksum_is_that_of_rfc_3720(tmp_path: Path) -> None:
    """CRC-32C of 32 bytes of zeros, RFC 3720 B.4, masked: a record of them that nobody else wrote."""
    masked = struct.pack("<I", ((0x8A9136AA >> 15 | 0x8A9136AA << 17) + 0xA282EAD8) & 0xFFFFFFFF)
    length = struct.pack("<Q", 32)
    (tmp_path / "a").write_bytes(length + written.masked(written.crc32c(length)) + bytes(32) + masked)
    assert _records(tmp_path / "a", range(1), 1) == [(12, bytes(32))]


def test_without_the_checksum_library_the_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written.write_records(tmp_path / "a", _PAYLOADS)
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    with pytest.raises(MissingExtra, match=r"pip install 'e2vpt\[bench\]'"):
        _records(path)
