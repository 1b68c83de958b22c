"""Times that can be compared: calls take turns, and a ratio is formed within a round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """One call's time over all rounds.

    Attributes:
        seconds: median.
        ratio: median of its time divided by the first call's time of the same round.
        ratio_low, ratio_high: the smallest and largest of those.
    """

    seconds: float
    ratio: float
    ratio_low: float
    ratio_high: float


def take_turns(
    runs: Mapping[str, Callable[[], None]],
    rounds: int,
    *,
    device: str = "cpu",
    on_call: Callable[[], None] | None = None,
) -> dict[str, Timing]:
    """Time every run once in each of some rounds, after one call of each that does not count.

    Ratios are to the first run. Each round begins with another run, so that none always follows the same one.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for index in range(-1, rounds):
        turn = max(index, 0) % len(names)
        for name in names[turn:] + names[:turn]:
            seconds = timed(runs[name], device)
            if index >= 0:
                times[name].append(seconds)
            if on_call is not None:
                on_call()
    first = times[names[0]]
    return {name: _timing(seconds, first) for name, seconds in times.items()}


def timed(run: Callable[[], None], device: str = "cpu") -> float:
    """Seconds of one call, all work on the device included."""
    _wait(device)
    began = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - began


def _timing(seconds: list[float], first: list[float]) -> Timing:
    ratios = [mine / other for mine, other in zip(seconds, first, strict=True)]
    return Timing(
        seconds=statistics.median(seconds),
        ratio=statistics.median(ratios),
        ratio_low=min(ratios),
        ratio_high=max(ratios),
    )


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
