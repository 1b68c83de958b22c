"""A loader's batches as optimizer steps."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import islice

from torch import Tensor

from e2vpt.config import TrainConfig
from e2vpt.data.loaders import Loader
from e2vpt.training.evaluate import Batches


def steps(loader: Batches, accumulation: int) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """The micro-batches of each optimizer step."""
    batches = iter(loader)
    while parts := list(islice(batches, accumulation)):
        yield parts


def warn_of_batch_size(loader: Batches, config: TrainConfig) -> None:
    """Warn where a batch size is set beside a loader of one's own."""
    if config.batch_size != TrainConfig().batch_size and not isinstance(loader, Loader):
        warnings.warn(
            f"batch_size={config.batch_size} has no effect: batches are what your own loader gives.",
            stacklevel=3,
        )


def set_epoch(loader: Batches, epoch: int) -> None:
    """Tell a loader, and its sampler, which epoch begins, where they ask for that."""
    for part in (loader, getattr(loader, "sampler", None)):
        tell = getattr(part, "set_epoch", None)
        if callable(tell):
            tell(epoch)
