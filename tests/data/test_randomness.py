"""Order and seeds are fixed functions of their keys; the generators of the caller are left alone."""

from __future__ import annotations

import random

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from e2vpt.data.randomness import derived_seed, seeded, shuffled


def test_known_values_hold_on_every_platform_and_version() -> None:
    assert derived_seed("sample", 0, 1, 2) == 1013867789783176235
    assert shuffled(range(8), "epoch", 0, 0) == [7, 3, 1, 2, 4, 0, 5, 6]


@given(st.lists(st.integers()), st.integers(0, 100))
def test_shuffled_is_a_permutation_and_repeats(items: list[int], key: int) -> None:
    assert sorted(shuffled(items, key)) == sorted(items)
    assert shuffled(items, key) == shuffled(items, key)


def _draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_seeded_rules_all_three_generators_and_puts_them_back() -> None:
    with seeded(5):
        first = _draw()
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[union-attr]
    with seeded(5):
        assert _draw() == first
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[union-attr]
    assert torch.equal(torch.get_rng_state(), before[2])
