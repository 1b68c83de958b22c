"""The table of a benchmark: means only of what is complete, and differences to the printed ones."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from e2vpt.benchmarks.compare.report import Line, lines
from e2vpt.benchmarks.suite.report import SUITE_COLUMNS, published_markdown, write_suite
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
        "tuned_percent": 2.0,
        "with_head_percent": 3.0,
        "diverged": False,
        "adapter_bytes": 1200,
    }


def lines_of(rows: list[dict[str, Any]]) -> list[Line]:
    return lines(rows, WHOLE.whole(), WHOLE.groups(), SUITE_COLUMNS)


def test_means_over_groups_and_tasks() -> None:
    by_group = {"natural": 0.8, "specialized": 0.6, "structured": 0.4}
    (line,) = lines_of([row(task.name, "bias", by_group[task.group]) for task in VTAB.values()])
    assert {name: mean.mean for name, mean in line.means.items()} == pytest.approx(
        {name: 100 * value for name, value in by_group.items()}
        | {"T": (7 * 80 + 4 * 60 + 8 * 40) / 19, "G": 60.0}
    )


def test_what_is_not_complete_has_no_mean(tmp_path: Path) -> None:
    rows = [row(task.name, "bias", 0.5, seed) for task in VTAB.values() for seed in (0, 1)]
    rows = [r for r in rows if r["task"] != "eurosat"]
    rows += [row("dtd", "linear", accuracy, seed) for seed, accuracy in enumerate((0.4, 0.6))]
    text = write_suite(tmp_path, WHOLE, rows, {}, backbone="vit-b16-sup21k", note="fast")
    for line in (
        "| method | bias | linear |",
        "| natural | 50.00 | - |",
        "| dtd | 50.0 ± 0.0 | 50.0 ± 14.1 |",
        "| tuned, % | 2.000 | 2.000 |",
        "| with head, % | 3.000 | 3.000 |",
        "| seeds | 2 | 2 |",
        "| bias | natural | 50.00 | 73.30 | -23.30 |",
    ):
        assert line in text.splitlines(), line
    assert "eurosat" not in text and "| T |" not in text


def test_differences_to_the_printed_means() -> None:
    rows = [row(task.name, "bias", 0.7) for task in VTAB.values()]
    printed = {"bias": {"natural": 73.3, "T": 60.27}}
    text = published_markdown(lines_of(rows), printed)
    assert "| bias | natural | 70.00 | 73.30 | -3.30 |" in text
    assert "| bias | T | 70.00 | 60.27 | +9.73 |" in text
    assert published_markdown(lines_of(rows[:3]), printed) == [
        "No group is complete for a method that the papers print numbers of."
    ]
    assert published_markdown(lines_of(rows), {}) == ["The papers print no numbers for this backbone."]


def test_files_of_a_benchmark_without_groups(tmp_path: Path) -> None:
    suite = Suite(kind="fgvc", directory="data", source="archives", tasks=dict.fromkeys(("nabirds",), "fgvc"))
    birds = {**row("nabirds", "linear", 0.25), "group": "fgvc"}
    text = write_suite(
        tmp_path, suite, [birds], {"command": "e2vpt bench fgvc"}, backbone="demo", note="fast"
    )
    assert text.startswith("# FGVC, images from archives\n\n* command: e2vpt bench fgvc")
    assert "| nabirds | 25.0 |" in text and "| mean |" not in text
    assert (tmp_path / "results.md").read_text() == text
    with (tmp_path / "results.csv").open() as file:
        (saved,) = csv.DictReader(file)
    assert saved["accuracy"] == "0.25" and saved["tuned_percent"] == "2.0"
    with Image.open(tmp_path / "pareto.png") as image:
        assert image.width > 600
