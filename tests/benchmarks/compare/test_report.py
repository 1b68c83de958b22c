"""The table of a comparison, of figures that were computed by hand."""

from __future__ import annotations

from typing import Any

import pytest

from e2vpt.benchmarks.compare.report import comparison_markdown, latex, lines
from e2vpt.benchmarks.spread import Spread

GROUPS = {"natural": ["a", "b"], "structured": ["c"]}


def final(method: str, task: str, seed: int, accuracy: float) -> dict[str, Any]:
    costs = ("num_tuned", "num_head", "adapter_bytes", "seconds", "images_per_second", "peak_mib")
    asked = {"stage": "final", "method": method, "task": task, "seed": seed, "lr": 0.1, "diverged": False}
    return asked | {"accuracy": accuracy} | dict.fromkeys(costs, 7.0)


ROWS = [final("m_1", task, 0, value) for task, value in (("a", 0.9), ("b", 0.7), ("c", 0.1))]
ROWS += [final("m_1", "c", 1, 0.3)]


def test_t_is_the_mean_over_tasks_and_g_over_groups() -> None:
    (line,) = lines(ROWS, GROUPS)
    assert line.by_group == {"natural": 80.0, "structured": 20.0} and line.total == Spread(
        pytest.approx(60.0), None
    )
    head, _, row = comparison_markdown([line])
    cells = [cell.strip() for cell in row.split("|")]
    columns = [cell.strip() for cell in head.split("|")]
    shown = {name: cells[columns.index(name)] for name in ("natural", "structured", "T", "G", "c", "seeds")}
    assert shown == {
        "natural": "80.00",
        "structured": "20.00",
        "T": "60.00",
        "G": "50.00",
        "c": "20.0 ± 14.1",
        "seeds": "1",
    }
    assert "mean" not in columns


def test_the_deviation_of_the_total_is_between_whole_seeds() -> None:
    # Seed 0 has 90, 70 and 10 %, seed 1 has 80, 90 and 30 %, seed 2 has not finished.
    more = [final("m_1", task, 1, value) for task, value in (("a", 0.8), ("b", 0.9))]
    (line,) = lines([*ROWS, *more, final("m_1", "a", 2, 0.85)])
    assert line.total == Spread(pytest.approx((85 + 80 + 20) / 3), pytest.approx(10 / 2**0.5))
    assert "61.67 ± 7.07" in comparison_markdown([line])[2] and r"$61.67 \pm 7.07$" in latex([line])


def test_latex_has_a_cell_for_every_column() -> None:
    for groups in (None, GROUPS):
        first, head, _, *body, last = latex(lines(ROWS, groups)).strip().splitlines()
        columns = first.removeprefix("\\begin{tabular}{").removesuffix("}")
        assert {len(columns)} == {row.count("&") + 1 for row in (head, *body)}
        assert last == "\\end{tabular}" and "m\\_1" in body[0]


def test_a_group_with_a_task_that_nobody_has_finished_is_left_out() -> None:
    (line,) = lines(ROWS, GROUPS | {"specialized": ["d"]})
    assert list(line.by_group) == ["natural", "structured"]


def test_a_training_that_diverged_counts_as_zero_and_is_named() -> None:
    asked = {"stage": "final", "method": "m_1", "task": "a", "seed": 1, "lr": 0.1}
    bad = asked | {"val_accuracy": 0.0, "diverged": True}
    (line,) = lines([*ROWS, bad, bad | {"seed": 2}], {})
    assert line.by_task["a"].mean == pytest.approx(30.0)
    assert line.diverged == 2 and line.costs["seconds"] == 7.0
    assert "(2 diverged)" in comparison_markdown([line])[2]
    assert lines([bad | {"task": task} for task in "abc"], {}) == []
