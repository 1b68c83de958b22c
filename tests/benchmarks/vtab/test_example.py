"""Messages that the tests wrote from the format's definition, parsed; damage is refused as a DataError."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import tfds_for_tests as written

from e2vpt.benchmarks.vtab.example import parse_example
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
    parsed = parse_example(written.example(features, packed), "here", features)
    assert parsed == features
    assert [type(parsed[name][0]) for name in parsed] == [type(value[0]) for value in features.values()]


def test_only_what_is_wanted_comes_back() -> None:
    payload = written.example({"a": [7], "b": [1.5], "empty": []})
    assert parse_example(payload, "here", ["a", "empty", "none"]) == {"a": [7], "empty": []}


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_data_errors(payload: bytes) -> None:
    with suppress(DataError):
        parse_example(payload, "here", ["a"])


@given(st.data())
def test_damaged_examples_raise_nothing_but_data_errors(data: st.DataObject) -> None:
    payload = bytearray(written.example({"a": [b"xyz", b""], "b": [1.5, 2.5], "c": [-1, 300]}))
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(payload[: data.draw(st.integers(0, len(payload)))])
    with suppress(DataError):
        parse_example(cut, "here", ["a", "b", "c"])


@pytest.mark.parametrize(
    "payload",
    [
        b"\x0a\x05ab",  # runs over its message
        b"\x0a",  # ends inside a number
        b"\x0a" + b"\xff" * 11,  # a number of more than 10 bytes
        b"\x02\x00",  # field 0
        b"\x09abc",  # 8 bytes announced
        written.field(1, written.field(1, written.field(1, b"\xff"))),  # a name that is not UTF-8
        written.field(1, written.field(1, written.field(2, written.field(2, written.field(1, b"123"))))),
    ],
)
def test_what_is_no_example(payload: bytes) -> None:
    with pytest.raises(DataError, match=r"here is not a tf\.train\.Example: .*\. Download or prepare"):
        parse_example(payload, "here", ["a"])


def test_of_a_name_or_a_kind_given_twice_the_later_counts() -> None:
    again = written.example({"a": [5]}) + written.example({"a": [6]})
    assert parse_example(again, "here", ["a"]) == {"a": [6]}
    both = written.field(1, b"a") + written.field(2, written.feature([1.0]) + written.feature([9]))
    assert parse_example(written.field(1, written.field(1, both)), "here", ["a"]) == {"a": [9]}
