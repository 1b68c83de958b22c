"""What stays: the highest scores."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.pruning_for_tests import scores_of

from e2vpt.errors import ConfigError
from e2vpt.pruning.selection import select

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_highest_scores_stay() -> None:
    chosen = select(scores_of([[1, 4, 2, 3], [1, 4, 2, 3]], shared=True), tokens=0.5, key_value=1)
    assert [t.tolist() for t in chosen.tokens] == [[False, True, False, True]] * 2
    assert [t.tolist() for t in chosen.key_value] == [[False, True, False]] * 2
    assert all(
        torch.equal(s, t[:, None].expand(-1, 2)) for s, t in zip(chosen.segments, chosen.tokens, strict=True)
    )


def test_blocks_compete_where_every_block_has_its_own_mask() -> None:
    scores = scores_of([[9, 8, 7], [1, 2, 3]], shared=False)
    free = select(scores, tokens=3, at_least_one=False)
    assert [t.sum().item() for t in free.tokens] == [3, 0]
    held = select(scores, tokens=3)
    assert [t.tolist() for t in held.tokens] == [[True, True, False], [False, False, True]]


def test_segments_are_chosen_among_the_tokens_that_stay() -> None:
    scores = scores_of([[1, 2, 3, 4]], shared=True)
    chosen = select(scores, tokens=2, segments=3)
    assert chosen.tokens[0].tolist() == [False, False, True, True]
    assert chosen.segments[0].sum() == 3 and not chosen.segments[0][:2].any()
    lone = select(scores, tokens=2, segments=1)
    assert lone.tokens[0].sum() == 1  # A token without segments would still be a live key.


def test_ties_go_to_the_first_and_blocks_without_prompts_stay_empty() -> None:
    chosen = select(scores_of([[1, 1, 1], []], shared=True), tokens=2)
    assert chosen.tokens[0].tolist() == [True, True, False] and chosen.tokens[1].shape == (0,)


@given(
    blocks=st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(any),
    tokens=st.floats(0, 1),
    segments=st.floats(0, 1),
    at_least_one=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_shares_are_kept_and_more_keeps_all_that_less_kept(
    blocks: list[int], tokens: float, segments: float, at_least_one: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    given_scores = [torch.rand(p, generator=generator).tolist() for p in blocks]
    scores = scores_of(given_scores, shared=False, seed=seed)
    chosen = select(scores, tokens=tokens, at_least_one=at_least_one)
    total, kept = sum(blocks), sum(int(t.sum()) for t in chosen.tokens)
    live = sum(p > 0 for p in blocks) if at_least_one else 0
    assert kept == max(int(tokens * total + 0.5), live)
    assert not at_least_one or all(bool(t.any()) for t in chosen.tokens if len(t))
    more = select(scores, tokens=(tokens + 1) / 2, at_least_one=at_least_one)
    assert all(bool((~a | b).all()) for a, b in zip(chosen.tokens, more.tokens, strict=True))
    fine = select(scores, tokens=tokens, segments=segments, at_least_one=at_least_one)
    assert all(bool((s.any(-1) == t).all()) for s, t in zip(fine.segments, fine.tokens, strict=True))
    assert sum(int(s.sum()) for s in fine.segments) == max(
        int(segments * kept * 2 + 0.5), live if kept else 0
    )


@pytest.mark.parametrize("kind", [float, np.float16, np.float32, np.float64, Fraction])
def test_a_share_is_any_real_number(kind: Any) -> None:
    chosen = select(scores_of([[1, 2, 3, 4]], shared=True), tokens=kind(0.5), segments=kind(1))
    assert chosen.tokens[0].tolist() == [False, False, True, True]


@pytest.mark.parametrize("kind", [int, np.int32, np.uint8, np.int64])
def test_a_count_is_any_whole_number(kind: Any) -> None:
    chosen = select(scores_of([[1, 2, 3, 4]], shared=True), tokens=kind(1))
    assert chosen.tokens[0].tolist() == [False, False, False, True]


NUMBERS = [1.5, -0.1, 5, -1, True, float("nan"), np.float32(1.5), np.int64(5), np.bool_(True)]
OTHERS = ["0.5", None, torch.tensor(0.5), torch.tensor(2), [0.5], 1j]


@pytest.mark.parametrize("wanted", [*NUMBERS, *OTHERS], ids=repr)
def test_what_cannot_be_kept_is_refused(wanted: Any) -> None:
    with pytest.raises(ConfigError, match="cannot be kept of 4"):
        select(scores_of([[1, 2, 3, 4]], shared=True), tokens=wanted)
