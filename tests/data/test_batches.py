"""The union of all shares is the epoch; batches are nearly equal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from e2vpt.data.batches import cut, deal, epoch_batches


@given(st.integers(0, 300), st.integers(1, 70), st.integers(0, 5), st.integers(0, 5), st.booleans())
def test_an_epoch_holds_every_image_once(n: int, size: int, seed: int, epoch: int, shuffle: bool) -> None:
    batches = epoch_batches(n, size, seed, epoch, shuffle)
    assert sorted(i for batch in batches for i in batch) == list(range(n))
    assert len(batches) == -(-n // size)
    sizes = [len(batch) for batch in batches]
    assert not sizes or (max(sizes) <= size and max(sizes) - min(sizes) <= 1)
    assert batches == epoch_batches(n, size, seed, epoch, shuffle)


@given(st.lists(st.integers(), max_size=60), st.integers(1, 8), st.integers(1, 8))
def test_shares_of_all_parts_and_ranks_are_the_batch(batch: list[int], parts: int, world: int) -> None:
    shares = [deal(batch, parts, rank, world) for rank in range(world)]
    assert all(len(dealt) == parts for dealt in shares)
    assert sorted(i for dealt in shares for share in dealt for i in share) == sorted(batch)


def test_order() -> None:
    assert epoch_batches(5, 2, 0, 0, shuffle=False) == [[0, 1], [2, 3], [4]]
    assert epoch_batches(50, 9, 0, 0, shuffle=True) != epoch_batches(50, 9, 0, 1, shuffle=True)
    assert epoch_batches(50, 9, 0, 0, shuffle=True) != epoch_batches(50, 9, 1, 0, shuffle=True)
    assert deal([1, 2, 3, 4, 5], 2, 0, 1) == [[1, 2, 3], [4, 5]]
    assert cut([], 0) == []
