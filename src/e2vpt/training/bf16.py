"""Whether bf16 is worth asking for: a CPU without instructions for it is a hundred times slower with it."""

from __future__ import annotations

import time

import torch

SLOW = 4.0
"""Times as long as fp32, from where on bf16 is emulated: 115 measured with AVX2 only."""
_SIZE = 192
_TRIES = 3


def bf16_slowdown() -> float:
    """How many times as long as in fp32 a matrix product takes in bf16 on this CPU; some 50 ms at most."""
    return _seconds(torch.bfloat16) / _seconds(torch.float32)


def slow_bf16_note() -> str | None:
    """What a person who asked for bf16 on this CPU should know first; None where it is fast."""
    slowdown = bf16_slowdown()
    if slowdown < SLOW:
        return None
    return (
        f"This processor has no instructions for bf16: a product takes {slowdown:.0f} times as long "
        "as in fp32. Use --precision fp32."
    )


def _seconds(dtype: torch.dtype) -> float:
    """The shortest of some tries, after one that does not count."""
    square = torch.ones(_SIZE, _SIZE, dtype=dtype)
    found = []
    for _ in range(1 + _TRIES):
        began = time.perf_counter()
        square @ square
        found.append(time.perf_counter() - began)
    return min(found[1:])
