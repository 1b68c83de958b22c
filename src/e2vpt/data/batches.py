"""Which images meet in which batch, and who computes which part of it: plain lists of indices."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from e2vpt.data.randomness import shuffled


def epoch_batches(num_images: int, batch_size: int, seed: int, epoch: int, shuffle: bool) -> list[list[int]]:
    """One epoch over images 0 to n-1: ceil(n / batch_size) batches whose sizes differ by at most one.

    Every image once, in an order fixed by (seed, epoch), or ascending. Nearly equal sizes, because a mean
    over a last batch of three images would count them many times over.
    """
    order = list(range(num_images))
    if shuffle:
        order = shuffled(order, "epoch", seed, epoch)
    return cut(order, -(-num_images // batch_size))


def deal(batch: Sequence[int], accumulation: int, rank: int, world: int) -> list[list[int]]:
    """This process's share of each of the batch's `accumulation` parts.

    Over all parts and ranks the shares hold every image of the batch once; some may be empty.
    """
    return [part[rank::world] for part in cut(batch, accumulation)]


def cut(items: Sequence[int], pieces: int) -> list[list[int]]:
    """`items` in order, in `pieces` lists whose lengths differ by at most one, longer ones first."""
    short, longer = divmod(len(items), pieces) if pieces else (0, 0)
    ends = [short * i + min(i, longer) for i in range(pieces + 1)]
    return [list(items[start:end]) for start, end in pairwise(ends)]
