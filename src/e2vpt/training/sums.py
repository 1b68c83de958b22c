"""Sums of figures that a device computes, read only when somebody looks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class RunningSums:
    """Sums of some scalars over many steps. Adding waits for nothing; reading waits for the device.

    Summed on the CPU in float64, in the order of the steps: not every device has float64, and sums so do not
    depend on how often they were read.
    """

    def __init__(self, count: int) -> None:
        self._total = torch.zeros(count, dtype=torch.float64)
        self._waiting: list[Tensor] = []

    def add(self, values: Sequence[Tensor]) -> None:
        """One scalar of each figure, on any device."""
        self._waiting.append(torch.stack(list(values)))

    def read(self) -> Tensor:
        """The sums so far: [count], float64, on the CPU."""
        if self._waiting:
            for row in torch.stack(self._waiting).cpu().double():
                self._total += row
            self._waiting.clear()
        return self._total.clone()
