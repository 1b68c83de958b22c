"""The report of a benchmark: the table of what was measured, and its means beside the printed ones."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2vpt.benchmarks.compare.report import plot
from e2vpt.benchmarks.compare.trial import ComparisonRow
from e2vpt.benchmarks.machine import report_head
from e2vpt.benchmarks.spread import Spread, spread
from e2vpt.benchmarks.suite.published import Published, published
from e2vpt.benchmarks.suite.tasks import Suite
from e2vpt.benchmarks.tables import latex_table, markdown_table
from e2vpt.files.atomic import write_atomic, write_csv

_COLUMNS = (
    *("task", "group", "method", "source", "lr", "seed", "accuracy", "num_tuned", "num_head"),
    *("num_backbone", "adapter_bytes"),
)
_NOTHING = "-"


@dataclass(frozen=True, kw_only=True, slots=True)
class SuiteLine:
    """A method over the benchmark.

    Attributes:
        by_task: its test accuracy on each finished task over the seeds, in %.
        means: by group, then T over all tasks and G over groups (VTAB), or the mean (FGVC), in %; only those
            whose tasks are all there.
        tuned, with_head: mean share of the backbone's parameters that is tuned, in %, without and with the
            head.
        seeds: fewest of any task.
    """

    method: str
    by_task: Mapping[str, Spread]
    means: Mapping[str, float]
    tuned: float
    with_head: float
    seeds: int


def suite_lines(suite: Suite, rows: Sequence[ComparisonRow]) -> list[SuiteLine]:
    """A line for each method that has finished a task, in the order of the rows."""
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        found = {task: [100 * row["accuracy"] for row in own if row["task"] == task] for task in suite.tasks}
        by_task = {task: spread(values) for task, values in found.items() if values}
        tuned, head = (
            statistics.mean(100 * row[name] / row["num_backbone"] for row in own)
            for name in ("num_tuned", "num_head")
        )
        lines.append(
            SuiteLine(
                method=method,
                by_task=by_task,
                means=_means(suite, by_task),
                tuned=tuned,
                with_head=tuned + head,
                seeds=min(len(values) for values in found.values() if values),
            )
        )
    return lines


def write_suite(
    out: Path,
    suite: Suite,
    rows: Sequence[ComparisonRow],
    machine: Mapping[str, str],
    *,
    backbone: str,
    note: str,
) -> str:
    """results.csv, results.md, results.tex and pareto.png in a folder; returns the Markdown.

    `note` says in words by which protocol; `backbone` is the name whose published numbers are shown.
    """
    lines = suite_lines(suite, rows)
    head = report_head(f"{suite.kind.upper()}, images from {suite.source}", machine)
    below = published_markdown(suite, lines, published(backbone))
    text = "\n".join([*head, "", note, "", *suite_markdown(suite, lines), "", *below, ""])
    write_csv(out / "results.csv", [{name: row.get(name) for name in _COLUMNS} for row in rows], _COLUMNS)
    write_atomic(out / "results.md", text.encode())
    write_atomic(out / "results.tex", suite_latex(suite, lines).encode())
    points = [
        (line.method, line.tuned, statistics.mean(s.mean for s in line.by_task.values()))
        for line in lines
        if len(line.by_task) == len(suite.tasks)
    ]
    write_atomic(
        out / "pareto.png", plot(points, "tuned parameters without the head, % of the backbone", 1e-3)
    )
    return text


def suite_markdown(suite: Suite, lines: Sequence[SuiteLine]) -> list[str]:
    """Test accuracy in %, mean ± standard deviation over seeds: tasks down, methods across, as 19 columns are
    too wide to read."""
    rows = [
        [task, *(line.by_task[task].text() if task in line.by_task else _NOTHING for line in lines)]
        for task in suite.tasks
    ]
    rows += [
        [
            f"**{name}**",
            *(f"**{line.means[name]:.2f}**" if name in line.means else _NOTHING for line in lines),
        ]
        for name in _mean_names(lines)
    ]
    rows.append(["tuned, %", *(f"{line.tuned:.3f}" for line in lines)])
    rows.append(["with head, %", *(f"{line.with_head:.3f}" for line in lines)])
    rows.append(["seeds", *(str(line.seeds) for line in lines)])
    return markdown_table(["", *(line.method for line in lines)], rows)


def published_markdown(
    suite: Suite, lines: Sequence[SuiteLine], printed: Mapping[str, Published]
) -> list[str]:
    """Means beside those that the papers print, and the differences; of methods and means that both have."""
    if not printed:
        return ["The papers print no numbers for this backbone."]
    rows = []
    for line in lines:
        row = printed.get(line.method)
        theirs = {} if row is None else row.means() if suite.kind == "vtab" else {"mean": row.fgvc}
        for name in [name for name in theirs if name in line.means]:
            values = line.means[name], theirs[name], line.means[name] - theirs[name]
            rows.append([line.method, name, *map("{:.2f}".format, values[:2]), f"{values[2]:+.2f}"])
    if not rows:
        return ["No group is complete for a method that the papers print numbers of."]
    table = markdown_table(["method", "mean", "here", "printed", "difference"], rows, texts=2)
    return ["## Beside the published numbers", "", *table]


def suite_latex(suite: Suite, lines: Sequence[SuiteLine]) -> str:
    """The papers' form: methods down, tasks and means across."""
    names = _mean_names(lines)
    rows = [
        [line.method, f"${line.tuned:.2f}$"]
        + [f"${line.by_task[task].mean:.1f}$" if task in line.by_task else "--" for task in suite.tasks]
        + [f"${line.means[name]:.2f}$" if name in line.means else "--" for name in names]
        for line in lines
    ]
    return latex_table(["method", "tuned, %", *suite.tasks, *names], rows)


def _mean_names(lines: Sequence[SuiteLine]) -> list[str]:
    return list(dict.fromkeys(name for line in lines for name in line.means))


def _means(suite: Suite, by_task: Mapping[str, Spread]) -> dict[str, float]:
    means = {
        name: statistics.mean(by_task[task].mean for task in tasks)
        for name, tasks in (*suite.groups().items(), ("T", suite.whole()))
        if set(tasks) <= set(by_task)
    }
    if "T" not in means:
        return means
    total = means.pop("T")
    return means | {"T": total, "G": statistics.mean(means.values())} if means else {"mean": total}
