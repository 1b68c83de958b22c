"""The table of a comparison, of figures that were computed by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from e2vpt.benchmarks.compare.report import lines, table
from e2vpt.benchmarks.spread import Spread

TASKS = ["a", "b", "c"]
COLUMNS = {"num_tuned": ("tuned", ",.0f")}
GROUPS = {"natural": ["a", "b"], "structured": ["c"]}


def final(method: str, task: str, seed: int, accuracy: float) -> dict[str, Any]:
    costs = ("num_tuned", "num_head", "adapter_bytes", "seconds", "images_per_second", "peak_mib")
    asked = {"stage": "final", "method": method, "task": task, "seed": seed, "lr": 0.1, "diverged": False}
    return asked | {"accuracy": accuracy} | dict.fromkeys(costs, 7.0)


ROWS = [final("m_1", task, 0, value) for task, value in (("a", 0.9), ("b", 0.7), ("c", 0.1))]
ROWS += [final("m_1", "c", 1, 0.3)]


def table_of(rows: list[dict[str, Any]], groups: Mapping[str, list[str]] = GROUPS) -> list[list[str]]:
    return table(lines(rows, TASKS, groups, COLUMNS), TASKS, COLUMNS)


def test_t_is_the_mean_over_tasks_and_g_over_groups() -> None:
    (line,) = lines(ROWS, TASKS, GROUPS, COLUMNS)
    assert {name: mean.mean for name, mean in line.means.items()} == pytest.approx(
        {"natural": 80.0, "structured": 20.0, "T": 60.0, "G": 50.0}
    )
    head, row = table_of(ROWS)
    shown = dict(zip(head, row, strict=True))
    assert shown == {
        "method": "m_1",
        "natural": "80.00",
        "structured": "20.00",
        "T": "60.00",
        "G": "50.00",
        "a": "90.0",
        "b": "70.0",
        "c": "20.0 ± 14.1",
        "seeds": "1",
        "tuned": "7",
    }


def test_without_groups_there_is_one_mean() -> None:
    head, row = table_of(ROWS, {})
    assert head[:3] == ["method", "mean", "a"] and row[1] == "60.00"


def test_the_deviation_of_the_total_is_between_whole_seeds() -> None:
    # Seed 0 has 90, 70 and 10 %, seed 1 has 80, 90 and 30 %, seed 2 has not finished.
    more = [final("m_1", task, 1, value) for task, value in (("a", 0.8), ("b", 0.9))]
    rows = [*ROWS, *more, final("m_1", "a", 2, 0.85)]
    (line,) = lines(rows, TASKS, GROUPS, COLUMNS)
    assert line.means["T"] == Spread(pytest.approx((85 + 80 + 20) / 3), pytest.approx(10 / 2**0.5))
    assert "61.67 ± 7.07" in table_of(rows)[1]


def test_a_group_with_a_task_that_nobody_has_finished_is_left_out() -> None:
    (line,) = lines(ROWS, TASKS, GROUPS | {"specialized": ["d"]}, COLUMNS)
    assert list(line.means) == ["natural", "structured", "T", "G"]


def test_a_method_that_has_not_finished_has_no_mean() -> None:
    head, first, second = table_of([*ROWS, final("m_2", "c", 0, 0.5)])
    assert dict(zip(head, second, strict=True)) == dict.fromkeys(head, "-") | {
        "method": "m_2",
        "structured": "50.00",
        "c": "50.0",
        "seeds": "1",
        "tuned": "7",
    }
    assert "-" not in first


def test_a_training_that_diverged_counts_as_zero_and_is_named() -> None:
    asked = {"stage": "final", "method": "m_1", "task": "a", "seed": 1, "lr": 0.1}
    bad = asked | {"val_accuracy": 0.0, "diverged": True}
    rows = [*ROWS, bad, bad | {"seed": 2}]
    (line,) = lines(rows, TASKS, {}, COLUMNS)
    assert line.by_task["a"].mean == pytest.approx(30.0)
    assert line.diverged == 2 and line.costs["num_tuned"] == 7.0
    assert "1 (2 diverged)" in table_of(rows)[1]
    # Nothing else is left of this method; it is not left out.
    assert table_of([bad | {"task": task} for task in TASKS], {})[1] == [
        *("m_1", "0.00", "0.0", "0.0", "0.0", "1 (3 diverged)", "-")
    ]
