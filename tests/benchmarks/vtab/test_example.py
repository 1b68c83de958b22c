"""Messages that protobuf's own way to write them made, read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import tfds_for_tests as written

from e2vpt.benchmarks.vtab.example import Span, parse_example
from e2vpt.errors import DataError

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
