"""The report of `e2vpt compare`: one table as Markdown, LaTeX and CSV, and accuracy against parameters."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2vpt.benchmarks.compare.trial import ComparisonRow
from e2vpt.benchmarks.figures import as_png, new_figure
from e2vpt.benchmarks.machine import report_head
from e2vpt.benchmarks.spread import Spread, spread
from e2vpt.benchmarks.tables import latex_table, markdown_table
from e2vpt.files.atomic import write_atomic, write_csv

_COSTS = {
    "num_tuned": "tuned",
    "num_head": "head",
    "adapter_bytes": "file, bytes",
    "seconds": "training, s",
    "images_per_second": "images/s",
    "peak_mib": "step, MiB",
}
_COLUMNS = ("task", "method", "seed", "lr", "accuracy", "val_accuracy", *_COSTS)
_PM = r"\pm"
_TUNING = ("stage", "task", "method", "lr", "seed", "val_accuracy", "diverged")


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A method over its seeds.

    Attributes:
        method, lr: which.
        by_task: its test accuracy on each task, in %.
        total: mean of the tasks' means, in % (the paper's T), and the deviation of this mean between the
            seeds that have finished every task.
        by_group: mean of the tasks' means in each group of tasks, in %.
        seeds: fewest of any task.
        diverged: how many of its trainings gave no usable model; each counts as an accuracy of 0.
        costs: means over all its runs of the columns from num_tuned on.
    """

    method: str
    lr: float
    by_task: Mapping[str, Spread]
    total: Spread
    by_group: Mapping[str, float]
    seeds: int
    diverged: int
    costs: Mapping[str, float]


Groups = Mapping[str, Sequence[str]]
"""Groups of tasks by name, as VTAB's natural, specialized and structured ones."""


def write_comparison(
    out: Path, rows: Sequence[ComparisonRow], machine: Mapping[str, str], groups: Groups | None = None
) -> str:
    """results.csv, tuning.csv, results.md, results.tex and pareto.png in a folder; returns the Markdown."""
    final = [row for row in rows if row["stage"] == "final"]
    tuning = [row for row in rows if row["stage"] == "tuning"]
    for name, chosen, columns in (("results.csv", final, _COLUMNS), ("tuning.csv", tuning, _TUNING)):
        known = [{"accuracy": 0.0} | row for row in chosen]  # a training that diverged has none
        write_csv(out / name, [{c: row.get(c, "") for c in columns} for row in known], columns)
    table = lines(rows, groups or {})
    text = "\n".join([*report_head("Comparison", machine), "", *comparison_markdown(table), ""])
    write_atomic(out / "results.md", text.encode())
    write_atomic(out / "results.tex", latex(table).encode())
    write_atomic(out / "pareto.png", pareto(table))
    return text


def lines(rows: Sequence[ComparisonRow], groups: Groups | None = None) -> list[Line]:
    """The table, a line for each method that has a finished training on every task."""
    final: list[ComparisonRow] = [{"accuracy": 0.0} | row for row in rows if row["stage"] == "final"]
    tasks = list(dict.fromkeys(row["task"] for row in final))
    found = []
    for method in dict.fromkeys(row["method"] for row in final):
        own = [row for row in final if row["method"] == method]
        values = {task: [100 * row["accuracy"] for row in own if row["task"] == task] for task in tasks}
        measured = [row for row in own if not row["diverged"]]
        if not all(values.values()) or not measured:
            continue
        by_task = {task: spread(v) for task, v in values.items()}
        by_group = {
            name: statistics.mean(by_task[task].mean for task in members)
            for name, members in (groups or {}).items()
            if set(members) <= set(tasks)
        }
        total = Spread(statistics.mean(s.mean for s in by_task.values()), _between_seeds(own, tasks))
        found.append(
            Line(
                method=method,
                lr=own[0]["lr"],
                by_task=by_task,
                total=total,
                by_group=by_group,
                seeds=min(map(len, values.values())),
                diverged=len(own) - len(measured),
                costs={name: statistics.mean(row[name] for row in measured) for name in _COSTS},
            )
        )
    return found


def _between_seeds(own: Sequence[ComparisonRow], tasks: Sequence[str]) -> float | None:
    by_seed: dict[int, dict[str, float]] = {}
    for row in own:
        by_seed.setdefault(row["seed"], {})[row["task"]] = 100 * row["accuracy"]
    means = [statistics.mean(found.values()) for found in by_seed.values() if len(found) == len(tasks)]
    return spread(means).deviation if means else None


def comparison_markdown(table: Sequence[Line]) -> list[str]:
    """Test accuracy in %, mean ± standard deviation over seeds, and what it costs."""
    tasks = list(table[0].by_task) if table else []
    tuned, others = list(_COSTS.values())[:2], list(_COSTS.values())[2:]
    head = ["method", *tuned, *_mean_names(table), *tasks, "seeds", "rate", *others]
    rows = []
    for line in table:
        accuracies = (s.text() for s in line.by_task.values())
        costs = [f"{cost:,.0f}" for cost in line.costs.values()]
        seeds = f"{line.seeds} ({line.diverged} diverged)" if line.diverged else str(line.seeds)
        counts = seeds, f"{line.lr:g}"
        rows.append([line.method, *costs[:2], *_means(line), *accuracies, *counts, *costs[2:]])
    return markdown_table(head, rows)


def latex(table: Sequence[Line]) -> str:
    """The same accuracies as a LaTeX tabular."""
    tasks = list(table[0].by_task) if table else []
    rows = [
        [line.method, f"{line.costs['num_tuned'] / 1000:.1f}k"]
        + [f"${text}$" for text in (*(s.text(sign=_PM) for s in line.by_task.values()), *_means(line, _PM))]
        for line in table
    ]
    return latex_table(["method", "tuned", *tasks, *_mean_names(table)], rows)


def _mean_names(table: Sequence[Line]) -> list[str]:
    """Of `_means`: one mean, or where tasks have groups theirs, T over tasks and G over groups."""
    groups = table[0].by_group if table else {}
    return [*groups, "T", "G"] if groups else ["mean"]


def _means(line: Line, sign: str = "±") -> list[str]:
    total = line.total.text(2, sign)
    if not line.by_group:
        return [total]
    over_groups = statistics.mean(line.by_group.values())
    return [*(f"{mean:.2f}" for mean in line.by_group.values()), total, f"{over_groups:.2f}"]


def pareto(table: Sequence[Line]) -> bytes:
    """A PNG: mean accuracy against tuned parameters without the head."""
    points = [(line.method, line.costs["num_tuned"], line.total.mean) for line in table]
    # A head alone tunes nothing else, and a logarithm needs one.
    return plot(points, "tuned parameters without the head", 1)


def plot(points: Sequence[tuple[str, float, float]], xlabel: str, least: float) -> bytes:
    """A PNG of names at what they tune, at `least` this, and their mean accuracy in %."""
    figure = new_figure(7.5, 5)
    axes = figure.add_subplot()
    for name, tuned, mean in points:
        x = max(tuned, least)
        axes.plot(x, mean, "o", color="tab:red" if name.startswith("e2vpt") else "tab:blue")
        axes.annotate(name, (x, mean), xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.set(xscale="log", xlabel=xlabel, ylabel="mean test accuracy, %")
    axes.grid(alpha=0.3)
    return as_png(figure)
