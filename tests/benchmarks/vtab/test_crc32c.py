"""CRC-32C, against RFC 3720 and the definition."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import tfds_for_tests as written

from e2vpt.benchmarks.vtab import crc32c as checksums
from e2vpt.benchmarks.vtab.crc32c import crc32c, masked_crc32c

_ISCSI_READ = bytes.fromhex(
    "01c000000000000000000000000000001400000000000400000000140000001828000000000000000200000000000000"
)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (_ISCSI_READ, 0xD9963A56),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_checksums_of_rfc_3720(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected
    assert written.crc32c(data) == written.fast_crc32c(data) == expected


@pytest.mark.parametrize(
    "size", [1, 4, 127, 128, 129, 1023, 1024, 1025, 5000, 64 * 1024, 64 * 1024 + 7, 200_000]
)
def test_checksums_of_every_length_agree_with_the_definition(size: int) -> None:
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
    assert crc32c(data) == written.fast_crc32c(data)
    assert struct.pack("<I", masked_crc32c(data)) == written.masked(written.fast_crc32c(data))


@given(st.binary(max_size=400))
def test_both_ways_to_a_checksum_agree(data: bytes) -> None:
    assert crc32c(data) == written.crc32c(data) == checksums._crc32c_of_few(data)
