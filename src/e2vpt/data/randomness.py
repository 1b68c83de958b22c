"""Random choices that depend on named numbers only: not on the worker, the order of calls or the platform."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch

T = TypeVar("T")


def derived_seed(*keys: int | str) -> int:
    """A seed in [0, 2^63) that is a fixed function of `keys`; different keys give unrelated seeds."""
    digest = hashlib.sha256(":".join(map(str, keys)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def shuffled(items: Sequence[T], *keys: int | str) -> list[T]:
    """`items` in a random order that is a fixed function of `keys`.

    Sorting by `Random.random()` because that stream is the only one Python promises never to change;
    `shuffle` and `torch.randperm` may differ between versions.
    """
    generator = random.Random(derived_seed(*keys))
    return sorted(items, key=lambda _: generator.random())


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run the body with the CPU generators of torch, `random` and numpy set to `seed`, then put them back."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: that also reseeds CUDA, whose state (prompt dropout) must not be disturbed.
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
