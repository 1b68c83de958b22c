"""CRC-32C, plain, and masked as in TFRecord files.

RFC 3720, B.4; tensorflow/core/lib/io/record_writer.h.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

_POLYNOMIAL = 0x82F63B78
_ONES = 0xFFFFFFFF
_BLOCK = 1024
_BLOCKS_AT_ONCE = 64
# Below this many bytes numpy's overhead is more than the loop's.
_SHORT = 128


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
