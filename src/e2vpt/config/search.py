"""What is done in several trainings: pruning, the paper's protocol, a search."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from e2vpt.config.fields import (
    HUGE,
    Counts,
    Numbers,
    as_tuple,
    check_choices,
    check_count,
    check_number,
    check_share,
    option,
    require,
)
from e2vpt.pruning.segments import Layout


@dataclass(frozen=True, kw_only=True, slots=True)
class PruneConfig:
    """Which visual prompts are removed after the first training, and what follows (paper, section 3.3).

    `keep` is the share of the visual prompt elements to keep; the ways to split it between tokens and
    segments are compared. `keep_tokens` and `keep_segments` name the shares to compare instead, all pairs.
    """

    keep: float = option(0.5, "Share of the visual prompt elements to keep.")
    keep_tokens: Numbers = option((), "Shares of tokens to try instead of --keep, as in 0.9,0.5.")
    keep_segments: Numbers = option((), "Shares of segments to try, with each of --keep-tokens.")
    keep_kv: float = option(1.0, "Share of the key-value prompts to keep.")
    num_segments: int = option(16, "Segments of a token's channels.")
    layout: Layout = option("strided", "Which channels a segment has: c mod R, or a run of neighbours.")
    masks: Literal["shared", "per-block"] = option(
        "per-block", "One mask for all blocks (official code), or blocks that keep different numbers."
    )
    signed_scores: bool = option(False, "Scores without absolute value (official code).")
    rewind: Literal["initial", "fresh", "none"] = option(
        "initial", "Where the survivors start again: their initial values, new ones, or where they are."
    )
    rewind_head: bool = option(False, "Rewind the head too; otherwise it goes on from where it is.")
    finalists: int = option(1, "Prunings that are trained again; the best on validation is kept.")
    tolerance: float = option(
        0.01, "Validation accuracy that may be given up against the unpruned prompts for a smaller adapter."
    )

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("keep", "keep_kv", "tolerance"):
            check_share(name, getattr(self, name))
        for name in ("keep_tokens", "keep_segments"):
            shares = getattr(self, name)
            require(isinstance(shares, tuple), f"{name} is {shares!r}; expected a tuple of shares.")
            for share in shares:
                check_share(name, share)
        for name in ("num_segments", "finalists"):
            check_count(name, getattr(self, name), 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class GridConfig:
    """What the paper's protocol goes through (reference.md section 3).

    All pairs of rate and decay, all pairs of keep ratios, then the seeds.
    """

    grid_optimizer: Literal["adamw", "sgd"] = option("sgd", "Optimizer of all its trainings.")
    base_lrs: Numbers = option(
        (50.0, 25.0, 10.0, 5.0, 2.5, 1.0, 0.5, 0.25, 0.1, 0.05),
        "Learning rates for a batch of 256; other batches scale them.",
    )
    weight_decays: Numbers = option((0.01, 0.001, 0.0001, 0.0), "Weight decays, with each rate.")
    keep_ratios: Numbers = option(
        (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1),
        "Shares of tokens and of segments to keep, all pairs; nothing is pruned where it is empty.",
    )
    final_seeds: Counts = option((42, 44, 82, 100, 800), "Seeds of the final trainings.")

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("base_lrs", "weight_decays", "keep_ratios", "final_seeds"):
            value = getattr(self, name)
            if name != "keep_ratios":
                require(value != (), f"{name} is empty; expected at least one number.")
            require(
                len(set(as_tuple(value))) == len(as_tuple(value)),
                f"{name} is {value!r}; a number is twice in it.",
            )
        for name in ("base_lrs", "weight_decays"):
            for number in getattr(self, name):
                check_number(name, number, 0.0, math.inf)
        for share in self.keep_ratios:
            check_share("keep_ratios", share)
        for seed in as_tuple(self.final_seeds):
            check_count("final_seeds", seed, 0)

    def num_trainings(self) -> int:
        """How many trainings the protocol takes."""
        grid = len(self.base_lrs) * len(self.weight_decays)
        return grid + len(self.keep_ratios) ** 2 + len(as_tuple(self.final_seeds))


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchConfig:
    """The space that a search goes through, and how far."""

    trials: int = option(20, "Trials: each a training, and a second one where fewer prompts are kept.")
    lr_range: Numbers = option((1e-3, 2e-2), "Lowest and highest learning rate, searched by magnitude.")
    weight_decay_range: Numbers = option((1e-5, 1e-1), "Lowest and highest weight decay, likewise.")
    visual_choices: Counts = option((1, 5, 10, 20), "Numbers of visual prompts to try.")
    kv_choices: Counts = option((1, 5, 10), "Numbers of key-value prompts to try.")
    inits: Literal["uniform", "patch", "both"] = option("both", "Initial visual prompts to try.")
    keep_choices: Numbers = option((1.0, 0.7, 0.5, 0.3), "Shares of visual prompt elements to try to keep.")
    stop_early: bool = option(True, "Stop trials that are worse than the median of the others so far.")
    search_seed: int = option(0, "Seed of what is tried.")

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
        require(bool(self.keep_choices), "keep_choices is empty; expected at least one share.")
        for share in self.keep_choices:
            check_share("keep_choices", share)
