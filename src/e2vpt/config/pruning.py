"""Which visual prompts are removed after the first training, and what follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from e2vpt.config.fields import (
    Numbers,
    check_choices,
    check_count,
    check_kept,
    check_share,
    option,
    require,
)

Layout = Literal["strided", "contiguous"]
"""Which segment channel c is in: "strided" c mod R, as in the official code; "contiguous" c // (D / R)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PruneConfig:
    """Which visual prompts are removed after the first training, and what follows (paper, section 3.3).

    `keep` is the share of the visual prompt elements to keep; the ways to split it between tokens and
    segments are compared. `keep_tokens` and `keep_segments` name the shares to compare instead, all pairs.
    """

    keep: float = option(0.5, "Share of the visual prompt elements to keep.")
    keep_tokens: Numbers = option((), "Shares of tokens to try instead of --keep, such as 0.9,0.5.")
    keep_segments: Numbers = option((), "Shares of segments to try with each of --keep-tokens.")
    prune_at: float = option(
        1.0,
        "Prune when this share of the epochs is over, such as 0.5, and go on with the rest; 1: train to the "
        "end, prune, and train as long again.",
    )
    keep_kv: float = option(1.0, "Share of the key-value prompts to keep.")
    num_segments: int = option(16, "Number of segments that a token's channels are divided into.")
    layout: Layout = option(
        "strided", "Channels of a segment: every R-th one (strided), or neighbours (contiguous)."
    )
    masks: Literal["shared", "per-block"] = option(
        "per-block", "One mask for all blocks, as in the official code, or a mask for each block."
    )
    signed_scores: bool = option(
        False, "Use signed scores, as in the official code, instead of absolute values."
    )
    rewind: Literal["initial", "fresh", "none"] = option(
        "initial", "Where the kept prompts start again: initial values, fresh random ones, or no rewinding."
    )
    rewind_head: bool = option(False, "Rewind the head too. By default it keeps its trained weights.")
    finalists: int = option(
        1, "How many of the best prunings to train again; validation decides between them."
    )
    tolerance: float = option(0.01, "Validation accuracy you would give up for the smaller, pruned adapter.")

    def __post_init__(self) -> None:
        check_choices(self)
        check_kept("keep", self.keep)
        check_share("prune_at", self.prune_at)
        require(self.prune_at > 0, "prune_at is 0; prompts are trained before they are pruned.")
        for name in ("keep_kv", "tolerance"):
            check_share(name, getattr(self, name))
        for name in ("keep_tokens", "keep_segments"):
            shares = getattr(self, name)
            require(isinstance(shares, tuple), f"{name} is {shares!r}; expected a tuple of shares.")
            for share in shares:
                check_kept(name, share)
        for name in ("num_segments", "finalists"):
            check_count(name, getattr(self, name), 1)

    @property
    def prunes_within(self) -> bool:
        """Whether prompts are pruned within one training."""
        return self.prune_at < 1

    @property
    def trainings(self) -> float:
        """How many times the epochs that are asked for a run trains, all of its trainings together."""
        again = 1 - self.prune_at if self.prunes_within else 1.0
        return self.prune_at + self.finalists * again

    def first_epochs(self, epochs: int) -> int:
        """Epochs before anything is pruned.

        Raises:
            ConfigError: too few to prune among them.
        """
        if not self.prunes_within:
            return epochs
        require(
            epochs > 1, f"prune_at is {self.prune_at:g}, which takes two epochs at least; there is {epochs}."
        )
        return min(max(1, round(self.prune_at * epochs)), epochs - 1)
