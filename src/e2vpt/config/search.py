"""The space that a search goes through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from e2vpt.config.fields import (
    HUGE,
    Counts,
    Numbers,
    as_tuple,
    check_choices,
    check_count,
    check_kept,
    option,
    require,
)
from e2vpt.errors import check_type


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchConfig:
    """The space that a search goes through, and how far."""

    trials: int = option(20, "Number of trials. Each is one training, or two if it prunes.")
    lr_range: Numbers = option((1e-3, 2e-2), "Lowest and highest learning rate, on a log scale.")
    weight_decay_range: Numbers = option((1e-5, 1e-1), "Lowest and highest weight decay, on a log scale.")
    visual_choices: Counts = option((1, 5, 10, 20), "Numbers of visual prompts to try.")
    kv_choices: Counts = option((0, 5, 10), "Numbers of key-value prompts to try.")
    inits: Literal["uniform", "patch", "both"] = option("both", "Initial visual prompts to try.")
    keep_choices: Numbers = option(
        (1.0, 0.7, 0.5, 0.3), "Shares of the visual prompts' elements to keep, to try."
    )
    stop_early: bool = option(True, "Stop trials early that are worse than the median.")
    search_seed: int = option(0, "Random seed of the search.")

    def __post_init__(self) -> None:
        check_choices(self)
        check_count("trials", self.trials, 1)
        check_count("search_seed", self.search_seed, 0)
        for name in ("lr_range", "weight_decay_range"):
            pair = getattr(self, name)
            fits = isinstance(pair, tuple) and len(pair) == 2 and 0 < pair[0] <= pair[1] < HUGE
            require(fits, f"{name} is {pair!r}; expected two positive numbers, the smaller first.")
        for name in ("visual_choices", "kv_choices"):
            for count in as_tuple(getattr(self, name)):
                check_count(name, count, 0)
        check_type("keep_choices", self.keep_choices, tuple)
        require(bool(self.keep_choices), "keep_choices is empty; expected at least one share.")
        for share in self.keep_choices:
            check_kept("keep_choices", share)
