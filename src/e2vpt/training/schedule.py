"""The learning rate at every step, of a whole training or of a part of one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from e2vpt.config import TrainConfig
from e2vpt.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochRange:
    """The epochs of a schedule that one training has: from `first` on, before `end`, both counted from 0.

    Raises:
        ConfigError: there is no epoch among them.
    """

    first: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.end:
            raise ConfigError(f"epochs {self.first} to {self.end} are none; expected 0 <= first < end.")

    @property
    def num_epochs(self) -> int:
        """Epochs of this training."""
        return self.end - self.first


def learning_rate(step: int, num_steps: int, config: TrainConfig) -> float:
    """Linear warm-up, then a half cosine to zero (reference.md section 3)."""
    warm = round(config.warmup * num_steps)
    if step < warm:
        return config.peak_lr * (step + 1) / warm
    return config.peak_lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, num_steps - warm)))


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The learning rate of the next step; of the head its own multiple."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
