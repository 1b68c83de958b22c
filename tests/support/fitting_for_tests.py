"""Settings and batches for short trainings, and two models compared."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from e2vpt import TrainConfig


def config(**values: object) -> TrainConfig:
    """Two epochs, if nothing else is asked for."""
    return TrainConfig(**({"epochs": 2, "lr": 0.01} | values))  # type: ignore[arg-type]


def same(a: nn.Module, b: nn.Module, tolerance: float = 0.0) -> None:
    """All their parameters and buffers are, to a tolerance."""
    for (name, x), (_, y) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
        assert torch.allclose(x, y, rtol=tolerance, atol=tolerance), name


class Labelled(list[tuple[Tensor, Tensor]]):
    """Batches with the `labels` of the whole split."""

    @property
    def labels(self) -> list[int]:
        return [int(y) for _, labels in self for y in labels]
