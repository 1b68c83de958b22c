"""What the paper's protocol goes through."""

from __future__ import annotations

import dataclasses
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

_BY_ADAMW = ("full", "partial", "bias", "adapter")
"""Methods that VPT trained by AdamW (arXiv 2203.12119, appendix A; KMnP/vpt: demo.ipynb runs them with
configs/finetune), all others by SGD."""
_ADAMW_LRS = (0.005, 0.001, 0.0005, 0.0001)
"""Their rates (KMnP/vpt: tune_vtab.py, tune_fgvc.py)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GridConfig:
    """What the paper's protocol goes through (reference.md section 3).

    All pairs of rate and decay, all pairs of keep ratios, then the seeds. The defaults are those of prompts
    and heads; `for_method` gives those of others.
    """

    grid_optimizer: Literal["adamw", "sgd"] = option(
        "sgd",
        "Optimizer of every training. Methods full, partial, bias and adapter have AdamW and "
        "--base-lrs 0.005,0.001,0.0005,0.0001 unless one of the two is given another value.",
    )
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

    def for_method(self, method: str) -> GridConfig:
        """The grid with the optimizer and the rates that VPT gave a method, unless others were asked for."""
        plain = GridConfig()
        asked = (self.grid_optimizer, self.base_lrs) != (plain.grid_optimizer, plain.base_lrs)
        if asked or method not in _BY_ADAMW:
            return self
        return dataclasses.replace(self, grid_optimizer="adamw", base_lrs=_ADAMW_LRS)

    def num_trainings(self) -> int:
        """How many trainings the protocol takes."""
        grid = len(self.base_lrs) * len(self.weight_decays)
        return grid + len(self.keep_ratios) ** 2 + len(as_tuple(self.final_seeds))
