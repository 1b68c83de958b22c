"""The format of MATLAB's .mat files of versions 5 to 7: bytes to arrays, texts, cells and structures.

Reads what lists of images are made of, from bytes that may be damaged or hostile: every length is held
against the bytes that are there. SciPy's reader is not made for that: with one random byte changed, about one
file in a hundred ends the process. Source: "MAT-File Format", The MathWorks, chapter 1 (version 5).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HEADER, _TAG = 128, 8
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
# Characters are stored as 16-bit units where MATLAB wrote them, otherwise in an encoding of their own.
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CELL, _STRUCT, _CHAR, _FIRST_NUMBER, _LAST_NUMBER = 1, 2, 4, 6, 15
_COMPLEX = 0x800
# Far more than any list of images, far less than what a bomb of a few kilobytes unpacks to.
_MOST_BYTES = 1 << 28
_MOST_DEPTH = 16


@dataclass(slots=True)
class _Elements:
    """A cursor over data elements, one after another; `order` is "<" or ">"."""

    data: memoryview
    order: str
    at: int = 0

    def next(self) -> tuple[int, memoryview]:
        """Type and content of the next element."""
        kind, size = self._words(self.at)
        start = end = self.at + _TAG
        if kind >> 16:  # A small element: size and type share a word, the content is in the other one.
            kind, size, start = kind & 0xFFFF, kind >> 16, self.at + 4
            if size > 4:
                raise ValueError(f"a small element of {size} bytes")
        else:  # Only compressed elements are not filled up to a multiple of 8 bytes.
            end += size if kind == _COMPRESSED else size + -size % 8
        content = self.data[start : start + size]
        if len(content) < size:
            raise ValueError(f"an element of {size} bytes, of which {len(content)} are there")
        self.at = end
        return kind, content

    def numbers(self) -> NDArray[Any]:
        """The next element as numbers."""
        kind, content = self.next()
        if kind not in _NUMBERS:
            raise ValueError(f"an element of type {kind} where numbers are due")
        return np.frombuffer(content, self.order + _NUMBERS[kind])

    def _words(self, at: int) -> tuple[int, int]:
        words = np.frombuffer(self.data[at : at + _TAG], self.order + "u4")
        if len(words) < 2:
            raise ValueError("it breaks off between two elements")
        return int(words[0]), int(words[1])


def parse_mat(data: bytes) -> dict[str, Any]:
    """The variables by name: numbers as an array [N], a text as str, cells and rows of text as a list, a
    structure array as a dictionary of lists by field, all in column order; None for any other kind.

    Raises:
        ValueError, zlib.error: truncated, damaged, or another format.
    """
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None or len(data) < _HEADER:
        raise ValueError("its header is not that of a MATLAB file of version 5 to 7")
    if data[125 if order == "<" else 124] != 1:
        raise ValueError("it is of another version, perhaps 7.3; save it again with -v7")
    elements, variables = _Elements(data=memoryview(data)[_HEADER:], order=order), {}
    while elements.at < len(elements.data):
        kind, content = elements.next()
        if kind == _COMPRESSED:
            kind, content = _Elements(data=_unpacked(content, order), order=order).next()
        if kind != _MATRIX:
            raise ValueError(f"an element of type {kind} where a variable is due")
        name, value = _matrix(content, order, 0)
        variables[name] = value
    return variables


def _unpacked(content: memoryview, order: str) -> memoryview:
    """The one element that is compressed, tag included."""
    stream = zlib.decompressobj()
    tag = stream.decompress(content, _TAG)
    size = int(np.frombuffer(tag[4:], order + "u4")[0]) if len(tag) == _TAG else 0
    if not 0 < size <= _MOST_BYTES:
        raise ValueError(f"a compressed element of {size} bytes")
    body = stream.decompress(stream.unconsumed_tail, size)
    # Only at its end does zlib compare the checksum.
    if stream.decompress(stream.unconsumed_tail, 1) or not stream.eof or len(body) < size:
        raise ValueError(f"a compressed element that does not end after {size} bytes")
    return memoryview(tag + body)


def _matrix(content: memoryview, order: str, depth: int) -> tuple[str, Any]:
    """Name and value of a matrix, which is anything in MATLAB."""
    if not len(content):
        return "", np.zeros(0)
    if depth > _MOST_DEPTH:
        raise ValueError(f"cells and structures more than {_MOST_DEPTH} deep")
    elements = _Elements(data=content, order=order)
    flags, dims, name = elements.numbers(), elements.numbers(), _ascii(elements.next()[1])
    if len(flags) < 1 or len(dims) < 2 or dims.min() < 0:
        raise ValueError(f"the shape {dims.tolist()} of {name!r}")
    kind, shape = int(flags[0]) & 0xFF, [int(size) for size in dims]
    if kind == _CELL:
        return name, [_inner(elements, depth) for _ in range(prod(shape))]
    if kind == _STRUCT:
        return name, _struct(elements, prod(shape), depth)
    if kind == _CHAR:
        return name, _text(elements, shape)
    if _FIRST_NUMBER <= kind <= _LAST_NUMBER and not int(flags[0]) & _COMPLEX:
        return name, _checked(elements.numbers(), prod(shape))
    return name, None


def _inner(elements: _Elements, depth: int) -> Any:
    kind, content = elements.next()
    if kind != _MATRIX:
        raise ValueError(f"an element of type {kind} where an entry is due")
    return _matrix(content, elements.order, depth + 1)[1]


def _struct(elements: _Elements, count: int, depth: int) -> dict[str, list[Any]]:
    lengths, names = elements.numbers(), elements.next()[1]
    length = int(lengths[0]) if len(lengths) == 1 else 0
    if length < 1 or len(names) % length:
        raise ValueError(f"names of fields in {len(names)} bytes, {length} each")
    fields = [_ascii(names[start : start + length]) for start in range(0, len(names), length)]
    values: dict[str, list[Any]] = {field: [] for field in fields}
    for _ in range(count if fields else 0):
        for field in fields:
            values[field].append(_inner(elements, depth))
    return values


def _text(elements: _Elements, shape: list[int]) -> str | list[str]:
    kind, content = elements.next()
    if kind not in _TEXTS:
        raise ValueError(f"an element of type {kind} where a text is due")
    encoding = _TEXTS[kind]
    if encoding in ("utf-16", "utf-32"):
        encoding += "-le" if elements.order == "<" else "-be"
    text, rows = str(content, encoding), shape[0]
    # MATLAB stores some texts of spaces as nothing; dimensions count UTF-16 units.
    if text and prod(shape) not in (len(text), len(text.encode("utf-16-le")) // 2):
        raise ValueError(f"a text of {len(text)} characters and shape {shape}")
    return text if rows < 2 else [text[row::rows] for row in range(rows)]


def _checked(numbers: NDArray[Any], count: int) -> NDArray[Any]:
    if len(numbers) != count:
        raise ValueError(f"{len(numbers)} numbers where the shape has {count}")
    return numbers


def _ascii(content: memoryview) -> str:
    return str(content, "ascii").partition("\0")[0]
