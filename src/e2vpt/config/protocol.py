"""What the paper's protocol goes through."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from e2vpt.config.fields import (
    Counts,
    Numbers,
    as_tuple,
    check_choices,
    check_count,
    check_kept,
    check_number,
    option,
    require,
    shown,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class GridConfig:
    """What the paper's protocol goes through (reference.md section 3).

    All pairs of rate and decay, all pairs of keep ratios, then the seeds.
    """

    grid_optimizer: Literal["adamw", "sgd"] = option("sgd", "Optimizer of every training.")
    base_lrs: Numbers = option(
        (50.0, 25.0, 10.0, 5.0, 2.5, 1.0, 0.5, 0.25, 0.1, 0.05),
        "Learning rates for a batch of 256; scaled linearly for other batch sizes.",
    )
    weight_decays: Numbers = option((0.01, 0.001, 0.0001, 0.0), "Weight decays, each tried with each rate.")
    keep_ratios: Numbers = option(
        (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1),
        "Shares of tokens and of segments to keep, tried in all pairs. Empty: no pruning.",
    )
    final_seeds: Counts = option((42, 44, 82, 100, 800), "Seeds of the final trainings.")

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("base_lrs", "weight_decays", "keep_ratios", "final_seeds"):
            value = getattr(self, name)
            if name != "final_seeds":
                require(isinstance(value, tuple), f"{name} is {shown(value)}; expected a tuple of numbers.")
            if name != "keep_ratios":
                require(value != (), f"{name} is empty; expected at least one number.")
            for number in as_tuple(value):
                require(isinstance(number, (int, float)), f"{name} holds {shown(number)}, no number.")
            require(
                len(set(as_tuple(value))) == len(as_tuple(value)),
                f"{name} is {value!r}; a number is twice in it.",
            )
        for name in ("base_lrs", "weight_decays"):
            for number in getattr(self, name):
                check_number(name, number, 0.0, math.inf)
        for share in self.keep_ratios:
            check_kept("keep_ratios", share)
        for seed in as_tuple(self.final_seeds):
            check_count("final_seeds", seed, 0)

    def num_trainings(self) -> int:
        """How many trainings the protocol takes."""
        grid = len(self.base_lrs) * len(self.weight_decays)
        return grid + len(self.keep_ratios) ** 2 + len(as_tuple(self.final_seeds))
