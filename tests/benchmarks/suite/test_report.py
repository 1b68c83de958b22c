"""The table of a benchmark: means only of what is complete, and differences to the printed ones."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from e2vpt.benchmarks.spread import Spread
from e2vpt.benchmarks.suite.published import Published
from e2vpt.benchmarks.suite.report import (
    published_markdown,
    suite_latex,
    suite_lines,
    suite_markdown,
    write_suite,
)
from e2vpt.benchmarks.suite.tasks import Suite
from e2vpt.benchmarks.vtab.tasks import VTAB

WHOLE = Suite(
    kind="vtab",
    directory="data",
    source="tfds",
    tasks={task.name: task.group for task in VTAB.values()},
)


def row(task: str, method: str, accuracy: float, seed: int = 0) -> dict[str, Any]:
    return {
        "task": task,
        "group": VTAB[task].group if task in VTAB else "fgvc",
        "method": method,
        "source": "tfds",
        "lr": 0.01,
        "seed": seed,
        "accuracy": accuracy,
        "num_tuned": 200,
        "num_head": 100,
        "num_backbone": 10_000,
        "adapter_bytes": 1200,
    }


def test_means_over_groups_and_tasks() -> None:
    by_group = {"natural": 0.8, "specialized": 0.6, "structured": 0.4}
    (line,) = suite_lines(WHOLE, [row(task.name, "bias", by_group[task.group]) for task in VTAB.values()])
    assert {name: line.means[name] for name in by_group} == pytest.approx(
        {name: 100 * value for name, value in by_group.items()}
    )
    assert line.means["T"] == pytest.approx((7 * 80 + 4 * 60 + 8 * 40) / 19)
    assert line.means["G"] == pytest.approx(60.0)
    assert (line.tuned, line.with_head, line.seeds) == (2.0, 3.0, 1)


def test_what_is_not_complete_has_no_mean() -> None:
    rows = [row(task.name, "bias", 0.5, seed) for task in VTAB.values() for seed in (0, 1)]
    rows = [r for r in rows if r["task"] != "eurosat"]
    rows += [row("dtd", "linear", accuracy, seed) for seed, accuracy in enumerate((0.4, 0.6))]
    bias, linear = suite_lines(WHOLE, rows)
    assert set(bias.means) == {"natural", "structured"} and linear.means == {}
    assert linear.by_task == {"dtd": Spread(pytest.approx(50.0), pytest.approx(14.142, abs=1e-3))}
    table = suite_markdown(WHOLE, [bias, linear])
    assert "| eurosat | - | - |" in table
    assert "| dtd | 50.0 ± 0.0 | 50.0 ± 14.1 |" in table
    assert "| **natural** | **50.00** | - |" in table
    assert not any(line.startswith("| **T**") for line in table)
    assert suite_latex(WHOLE, [bias, linear]).count("--") == 1 + 18 + 2


def test_differences_to_the_printed_means() -> None:
    rows = [row(task.name, "bias", 0.7) for task in VTAB.values()]
    printed = {"bias": Published(fgvc=80.0, natural=73.3, specialized=70.0, structured=44.0)}
    text = published_markdown(WHOLE, suite_lines(WHOLE, rows), printed)
    assert "| bias | natural | 70.00 | 73.30 | -3.30 |" in text
    assert "| bias | T | 70.00 | 60.27 | +9.73 |" in text
    assert "| bias | G | 70.00 | 62.43 | +7.57 |" in text
    assert published_markdown(WHOLE, suite_lines(WHOLE, rows[:3]), printed) == [
        "No group is complete for a method that the papers print numbers of."
    ]
    assert published_markdown(WHOLE, suite_lines(WHOLE, rows), {}) == [
        "The papers print no numbers for this backbone."
    ]


def test_files_of_a_benchmark_without_groups(tmp_path: Path) -> None:
    suite = Suite(kind="fgvc", directory="data", source="archives", tasks=dict.fromkeys(("nabirds",), "fgvc"))
    birds = {**row("nabirds", "linear", 0.25), "group": "fgvc"}
    text = write_suite(
        tmp_path, suite, [birds], {"command": "e2vpt bench fgvc"}, backbone="demo", note="fast"
    )
    assert text.startswith("# FGVC, images from archives\n\n* command: e2vpt bench fgvc")
    assert "| nabirds | 25.0 |" in text and "mean" not in text
    assert (tmp_path / "results.md").read_text() == text
    with (tmp_path / "results.csv").open() as file:
        (saved,) = csv.DictReader(file)
    assert saved["accuracy"] == "0.25" and saved["num_backbone"] == "10000"
    with Image.open(tmp_path / "pareto.png") as image:
        assert image.width > 600
