"""Stochastic depth while training (arXiv 1603.09382): timm's, in a backbone that was created without it."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import DropPath
from torch import nn

from e2vpt.backbones.families import BLOCKS
from e2vpt.errors import ConfigError


class DroppedPaths:
    """Context: inside, both branches of every block are skipped for an image by chance.

    The rate rises from 0 in the first block to `rate` in the last, as in timm. A rate of 0 leaves a model as
    it was created. Entered again, the same modules serve.
    """

    def __init__(self, model: nn.Module, rate: float) -> None:
        """Draws nothing and changes nothing yet.

        Raises:
            ConfigError: the model has no blocks that timm's known families have.
        """
        blocks = [m for m in model.modules() if isinstance(m, BLOCKS)]
        if rate and not blocks:
            raise ConfigError(f"drop_path: {type(model).__name__} has no blocks of a family that is known.")
        rates = torch.linspace(0, rate, len(blocks)).tolist()
        self._places: list[tuple[Any, str, nn.Module, nn.Module]] = [
            (block, name, getattr(block, name), DropPath(own) if own else nn.Identity())
            for block, own in zip(blocks, rates, strict=True)
            for name in ("drop_path1", "drop_path2")
            if rate
        ]

    def __enter__(self) -> None:
        for block, name, _, dropping in self._places:
            setattr(block, name, dropping)

    def __exit__(self, *error: object) -> None:
        for block, name, before, _ in self._places:
            setattr(block, name, before)
