"""Mean and standard deviation of a few runs, and how they are written."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """Of some runs: mean, and sample standard deviation, None of a single run, which has none."""

    mean: float
    deviation: float | None

    def text(self, digits: int = 1) -> str:
        """As "82.1 ± 0.3", a single run as "82.1"."""
        if self.deviation is None:
            return f"{self.mean:.{digits}f}"
        return f"{self.mean:.{digits}f} ± {self.deviation:.{digits}f}"


def spread(values: Sequence[float]) -> Spread:
    """Mean and deviation of at least one value."""
    return Spread(statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None)
