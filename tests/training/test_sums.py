"""Sums that are read now and then equal sums of everything."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from e2vpt.training.sums import RunningSums

ROWS = st.lists(st.tuples(st.floats(-1e6, 1e6, width=32), st.integers(0, 1000), st.booleans()), max_size=20)


@given(ROWS)
def test_reading_in_between_changes_nothing(rows: list[tuple[float, int, bool]]) -> None:
    sums, total = RunningSums(2), [0.0, 0.0]
    for number, count, looks in rows:
        sums.add([torch.tensor(number), torch.tensor(count)])
        total = [total[0] + number, total[1] + count]
        if looks:
            assert sums.read().tolist() == total
    assert sums.read().tolist() == total
    assert sums.read().dtype == torch.float64


def test_what_was_read_stays_as_it_was() -> None:
    sums = RunningSums(1)
    before = sums.read()
    sums.add([torch.tensor(1.0)])
    assert (before.tolist(), sums.read().tolist()) == ([0.0], [1.0])
