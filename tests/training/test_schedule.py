"""Parts of one schedule: learning rates and orders of images are those of the whole."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
from support.fitting_for_tests import config, same
from support.tasks_for_tests import batches, tiny_vit
from torch import Tensor

from e2vpt import fit
from e2vpt.errors import ConfigError
from e2vpt.training.schedule import EpochRange


class Told(list[tuple[Tensor, Tensor]]):
    """Batches whose order depends on the epoch, as a loader's does."""

    epochs: list[int]

    def set_epoch(self, epoch: int) -> None:
        self.epochs = [*getattr(self, "epochs", []), epoch]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        shift = self.epochs[-1] % len(self)
        return iter([*self[shift:], *self[:shift]])


def test_two_parts_are_one_training() -> None:
    """To the same bytes with plain SGD, which keeps nothing from one step to the next."""
    whole = tiny_vit()
    parted = copy.deepcopy(whole)
    settings = config(epochs=5, optimizer="sgd", momentum=0.0, mixup=0.3, warmup=0.5)
    data = batches([5, 4, 4])
    history = fit(whole, Told(data), config=settings).history
    told = Told(data)
    first = fit(parted, told, config=settings, part=EpochRange(first=0, end=2))
    then = fit(parted, told, config=settings, part=EpochRange(first=2, end=5))
    same(whole, parted, 0)
    assert told.epochs == [0, 1, 2, 3, 4]
    rows = [*first.history, *then.history]
    assert [row["epoch"] for row in rows] == [1, 2, 1, 2, 3]
    assert [row | {"epoch": 0} for row in rows] == [row | {"epoch": 0} for row in history]


def test_parts_that_are_none() -> None:
    for first, end in ((2, 2), (3, 2), (-1, 2)):
        with pytest.raises(ConfigError, match="are none"):
            EpochRange(first=first, end=end)
    with pytest.raises(ConfigError, match="part ends after epoch 3; the schedule has 2"):
        fit(tiny_vit(), batches([4]), config=config(epochs=2), part=EpochRange(first=0, end=3))
