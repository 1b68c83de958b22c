"""Turns, ratios within a round, medians."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from e2vpt.benchmarks.speed import clock


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A clock that runs only while something is called, at the machine's present slowness."""
    state: dict[str, Any] = {"now": 0.0, "slowness": 1.0, "calls": []}
    monkeypatch.setattr(clock.time, "perf_counter", lambda: state["now"])
    return state


def taking(machine: dict[str, Any], name: str, seconds: float) -> Any:
    def run() -> None:
        machine["calls"].append(name)
        machine["now"] += seconds * machine["slowness"]

    return run


def test_every_call_takes_its_turn_and_the_first_round_does_not_count(machine: dict[str, Any]) -> None:
    runs = {name: taking(machine, name, seconds) for name, seconds in (("a", 1.0), ("b", 2.0), ("c", 0.5))}
    counted: list[int] = []
    timings = clock.take_turns(runs, 3, on_call=lambda: counted.append(1))
    assert machine["calls"] == [*"abc", *"abc", *"bca", *"cab"]
    assert len(counted) == 12
    assert {name: t.ratio for name, t in timings.items()} == {"a": 1.0, "b": 2.0, "c": 0.5}
    assert timings["b"].seconds == 2.0


def test_a_slow_minute_does_not_change_a_ratio(machine: dict[str, Any]) -> None:
    calls = Counter[str]()

    def run(name: str, seconds: float) -> Any:
        def call() -> None:
            calls[name] += 1
            machine["slowness"] = 10.0 if calls[name] == 3 else 1.0
            taking(machine, name, seconds)()

        return call

    timings = clock.take_turns({"plain": run("plain", 1.0), "other": run("other", 2.0)}, 5)
    assert (timings["other"].ratio, timings["other"].ratio_low, timings["other"].ratio_high) == (
        2.0,
        2.0,
        2.0,
    )
    assert timings["plain"].seconds == 1.0


def test_the_spread_is_shown(machine: dict[str, Any]) -> None:
    calls = Counter[str]()

    def uneven() -> None:
        calls["n"] += 1
        taking(machine, "uneven", {1: 9.0, 2: 1.0, 3: 3.0, 4: 2.0}[calls["n"]])()

    timing = clock.take_turns({"plain": taking(machine, "plain", 1.0), "uneven": uneven}, 3)["uneven"]
    assert (timing.ratio, timing.ratio_low, timing.ratio_high) == (2.0, 1.0, 3.0)
