"""Mean and standard deviation, checked by hand."""

from __future__ import annotations

import math
import statistics

import pytest

from e2vpt.benchmarks.spread import Spread, spread


def test_of_two_runs() -> None:
    found = spread([40.0, 60.0])
    assert found == Spread(50.0, pytest.approx(math.sqrt(200)))
    assert found.text() == "50.0 ± 14.1" and found.text(2) == "50.00 ± 14.14"


def test_a_single_run_has_no_spread() -> None:
    assert spread([82.14]) == Spread(82.14, None)
    assert spread([82.14]).text() == "82.1"


def test_of_nothing() -> None:
    with pytest.raises(statistics.StatisticsError):
        spread([])
