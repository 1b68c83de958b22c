"""A loader's batches as optimizer steps."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sized
from itertools import islice
from types import NoneType

from torch import Tensor, nn

from e2vpt.backbones.batches import checked_batch
from e2vpt.config import TrainConfig
from e2vpt.errors import ConfigError, check_type

Batches = Iterable[tuple[Tensor, Tensor]]
"""Images [B, 3, h, w] and labels [B]."""


def check_arguments(
    model: nn.Module, train_loader: Batches, val_loader: Batches | None, config: TrainConfig
) -> None:
    """Hold the arguments of `fit` to their types and to each other.

    Raises:
        ConfigError: one has another type, or `patience` has no images to go by.
    """
    check_type("model", model, nn.Module)
    check_type("train_loader", train_loader, Sized)
    check_type("val_loader", val_loader, Iterable, NoneType)
    check_type("config", config, TrainConfig)
    if config.patience and val_loader is None:
        raise ConfigError("patience needs validation images, to see when accuracy stops improving.")
    _warn_of_batch_size(train_loader, config)


def steps(loader: Batches, accumulation: int) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """The micro-batches of each optimizer step."""
    batches = map(checked_batch, loader)
    while parts := list(islice(batches, accumulation)):
        yield parts


def _warn_of_batch_size(loader: Batches, config: TrainConfig) -> None:
    """Warn where a batch size is set beside a loader of one's own."""
    if config.batch_size != TrainConfig().batch_size and not hasattr(loader, "num_images"):
        warnings.warn(
            f"batch_size={config.batch_size} has no effect: batches are what your own loader gives.",
            stacklevel=4,
        )


def set_epoch(loader: Batches, epoch: int) -> None:
    """Tell a loader, and its sampler, which epoch begins, where they ask for that."""
    for part in (loader, getattr(loader, "sampler", None)):
        tell = getattr(part, "set_epoch", None)
        if callable(tell):
            tell(epoch)
