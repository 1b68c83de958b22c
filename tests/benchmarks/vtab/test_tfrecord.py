"""TFRecord files are read in place, held to both checksums, and never trusted."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import tfds_for_tests as written

from e2vpt.benchmarks.vtab import tfrecord
from e2vpt.benchmarks.vtab.crc32c import crc32c, masked_crc32c
from e2vpt.benchmarks.vtab.example import Span, parse_example
from e2vpt.benchmarks.vtab.tfrecord import index_records, read_payloads
from e2vpt.errors import DataError

_PAYLOADS = [b"", b"one", np.random.default_rng(0).bytes(3000), b"\0" * 200]
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
    assert crc32c(data) == written.crc32c(data) == tfrecord._crc32c_of_few(data)


def test_records_are_found_and_come_out_as_they_went_in(tmp_path: Path) -> None:
    path = written.write_records(tmp_path / "a.tfrecord", _PAYLOADS)
    index = index_records(path)
    assert index.tolist() == [[12, 0], [28, 3], [47, 3000], [3063, 200]]
    assert list(read_payloads(path, index)) == _PAYLOADS
    assert list(read_payloads(path, index[2:3])) == _PAYLOADS[2:3]
    content = path.read_bytes()
    assert [content[offset : offset + size] for offset, size in index.tolist()] == _PAYLOADS


def test_a_file_without_records(tmp_path: Path) -> None:
    assert index_records(written.write_records(tmp_path / "a", [])).shape == (0, 2)


@pytest.mark.parametrize("content", [b"PK\x03\x04 and some more", b"\0" * 100, b"\x1f\x8b" + b"x" * 50])
def test_other_files_are_no_tfrecords(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError, match=r"a is not a TFRecord file: its first 12 bytes"):
        index_records(tmp_path / "a")


@pytest.mark.parametrize("missing", range(1, 20))
def test_truncated_files(tmp_path: Path, missing: int) -> None:
    path = written.write_records(tmp_path / "a", [b"first", b"2nd"])
    path.write_bytes(path.read_bytes()[:-missing])
    if missing == 19:
        assert len(index_records(path)) == 1  # A whole record less: only a count can tell.
    else:
        with pytest.raises(
            DataError, match=r"a is truncated: it ends inside the (3|12) bytes at byte (33|21)\."
        ):
            index_records(path)


def test_a_damaged_length(tmp_path: Path) -> None:
    content = bytearray(written.frame(b"first") + written.frame(b"second"))
    content[21] ^= 1
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError, match="a is damaged: the length at byte 21 does not match its checksum"):
        index_records(tmp_path / "a")


def test_a_length_beyond_the_file_allocates_nothing(tmp_path: Path) -> None:
    length = struct.pack("<Q", 1 << 60)
    (tmp_path / "a").write_bytes(length + written.masked(written.crc32c(length)) + b"little")
    with pytest.raises(DataError, match=f"ends inside the {1 << 60} bytes at byte 12"):
        index_records(tmp_path / "a")


@pytest.mark.parametrize("at", [47, 1000, 3046, 3047, 3050])
def test_a_damaged_payload(tmp_path: Path, at: int) -> None:
    path = written.write_records(tmp_path / "a", _PAYLOADS)
    content = bytearray(path.read_bytes())
    content[at] ^= 0x40
    path.write_bytes(content)
    index = index_records(path)
    with pytest.raises(DataError, match="a is damaged: the payload at byte 47 does not match its checksum"):
        list(read_payloads(path, index))
    assert len(list(read_payloads(path, index, checksums=False))) == 4


def test_a_file_that_shrinks_after_it_was_indexed(tmp_path: Path) -> None:
    path = written.write_records(tmp_path / "a", _PAYLOADS)
    index = index_records(path)
    os.truncate(path, 3100)
    with pytest.raises(DataError, match="ends inside the 200 bytes at byte 3063"):
        list(read_payloads(path, index))


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Cannot read .*gone: No such file"):
        index_records(tmp_path / "gone")
    with pytest.raises(DataError, match=r"Cannot read .*gone: No such file"):
        list(read_payloads(tmp_path / "gone", np.array([[12, 3]], dtype=np.int64)))


_FLOATS = st.floats(width=32, allow_nan=False)
_INTS = st.integers(-(1 << 63), (1 << 63) - 1)
_VALUES = st.one_of(
    st.lists(st.binary(max_size=300), min_size=1, max_size=4),
    st.lists(_FLOATS, min_size=1, max_size=6),
    st.lists(_INTS, min_size=1, max_size=6),
)


@given(st.dictionaries(st.text(max_size=20), _VALUES, max_size=5), st.booleans())
def test_examples_come_out_as_they_went_in(features: dict[str, written.Value], packed: bool) -> None:
    payload = written.example(features, packed)
    parsed = parse_example(payload, "here")
    assert list(parsed) == list(features)
    for name, value in features.items():
        found = parsed[name]
        copies = [payload[span.offset : span.offset + span.size] for span in found.spans]
        assert (copies or list(found.floats) or list(found.ints)) == value
        kind = {bytes: "bytes", float: "floats", int: "ints"}[type(value[0])]
        assert found.kind == kind


def _places(payload: bytes) -> list[Span]:
    """Where the bytes of an Example lie; none of a message that is refused as it should be."""
    try:
        return [span for found in parse_example(payload, "here").values() for span in found.spans]
    except DataError:
        return []


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_data_errors(payload: bytes) -> None:
    assert all(span.offset + span.size <= len(payload) for span in _places(payload))


@given(st.data())
def test_damaged_examples_raise_nothing_but_data_errors(data: st.DataObject) -> None:
    payload = bytearray(written.example({"a": [b"xyz", b""], "b": [1.5, 2.5], "c": [-1, 300]}))
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(payload[: data.draw(st.integers(0, len(payload)))])
    assert all(span.offset + span.size <= len(cut) for span in _places(cut))


def test_only_what_is_wanted_is_decoded() -> None:
    broken = written.field(1, b"b") + written.field(2, written.field(2, written.field(1, b"123")))
    payload = written.field(1, written.field(1, broken)) + written.example({"a": [7]})
    assert parse_example(payload, "here", ["a", "none"])["a"].ints == (7,)
    with pytest.raises(DataError, match=r"here is not a tf\.train\.Example: 3 bytes of 4-byte floats"):
        parse_example(payload, "here")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\x0a\x05ab", "runs over its message"),
        (b"\x0a", "ends inside a number"),
        (b"\x0a" + b"\xff" * 11, "more than 10 bytes"),
        (b"\x0b\x01\x0c", "wire type 3"),
        (b"\x02\x00", "number 0"),
        (b"\x09abc", "runs over its message"),
        (written.field(1, written.field(1, written.field(1, b"\xff"))), "can't decode"),
    ],
)
def test_what_is_wrong_with_a_message_is_said(payload: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        parse_example(payload, "here")


def test_what_protobuf_allows_is_understood() -> None:
    """Unknown fields are skipped, a message in two parts is one, later entries and kinds win, lists go on."""
    unknown = b"\x78\x05" + b"\x79" + b"8 bytes." + b"\x7d4444" + written.field(15, b"x")
    entry = unknown + written.field(1, b"a") + written.field(2, unknown + written.feature([1, 2]))
    empty = written.field(1, b"e") + written.field(2, b"")
    payload = unknown + written.field(1, unknown + written.field(1, entry)) + written.example({"b": [3]})
    payload += written.field(1, written.field(1, empty) + written.field(1, b""))
    parsed = parse_example(payload, "here")
    assert {name: found.ints for name, found in parsed.items()} == {"a": (1, 2), "b": (3,), "e": (), "": ()}
    assert parsed["e"].kind == "none"
    again = written.example({"a": [5]}) + written.example({"a": [6]})
    assert parse_example(again, "here")["a"].ints == (6,)
    for value, ints, floats in [([1], (1, 9), ()), ([1.0], (9,), ())]:
        both = written.field(1, b"a") + written.field(2, written.feature(value) + written.feature([9]))
        found = parse_example(written.field(1, written.field(1, both)), "here")["a"]
        assert (found.ints, found.floats) == (ints, floats)
