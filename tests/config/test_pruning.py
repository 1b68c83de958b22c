"""Settings of pruning: when it comes, and how many epochs it makes of those that are asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2vpt import PruneConfig
from e2vpt.errors import ConfigError


def test_two_whole_trainings_unless_something_else_is_asked_for() -> None:
    default = PruneConfig()
    assert not default.prunes_within and default.first_epochs(1) == 1
    assert (default.trainings, PruneConfig(finalists=3).trainings) == (2, 4)


@given(st.floats(0.001, 0.999), st.integers(2, 1000))
def test_both_parts_of_a_training_have_an_epoch(at: float, epochs: int) -> None:
    first = PruneConfig(prune_at=at).first_epochs(epochs)
    assert 1 <= first <= epochs - 1
    assert abs(first - at * epochs) <= 1 or first in (1, epochs - 1)


def test_a_training_that_prunes_within_costs_its_epochs_once() -> None:
    assert PruneConfig(prune_at=0.5).trainings == 1
    assert PruneConfig(prune_at=0.75, finalists=3).trainings == 1.5


@pytest.mark.parametrize(("at", "message"), [(0.0, "prune_at is 0; prompts are trained"), (1.5, "prune_at")])
def test_moments_that_are_none(at: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PruneConfig(prune_at=at)


def test_one_epoch_cannot_be_parted() -> None:
    with pytest.raises(ConfigError, match=r"prune_at is 0\.5, which takes two epochs at least"):
        PruneConfig(prune_at=0.5).first_epochs(1)
