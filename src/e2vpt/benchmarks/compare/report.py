"""The table of `e2vpt compare` and of the benchmarks: methods, tasks, means and costs, in four files."""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2vpt.benchmarks.compare.trial import ComparisonRow
from e2vpt.benchmarks.machine import report_head
from e2vpt.benchmarks.spread import Spread, spread
from e2vpt.benchmarks.tables import latex_table, markdown_table
from e2vpt.errors import needs
from e2vpt.files.atomic import write_atomic, write_csv

RESULT_FILES = ("results.md", "results.csv", "results.tex", "pareto.png")
Groups = Mapping[str, Sequence[str]]
"""Groups of tasks by name, as VTAB's natural, specialized and structured ones."""
Columns = Mapping[str, tuple[str, str]]
"""What is shown beside accuracies: a field of the rows, its title, and the format of its mean."""

_COLUMNS: Columns = {
    "num_tuned": ("tuned", ",.0f"),
    "num_head": ("head", ",.0f"),
    "lr": ("rate", "g"),
    "adapter_bytes": ("file, bytes", ",.0f"),
    "seconds": ("training, s", ",.0f"),
    "images_per_second": ("images/s", ",.0f"),
    "peak_mib": ("step, MiB", ",.0f"),
}
_NOTHING = "-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A method over tasks and seeds.

    Attributes:
        method: which.
        by_task: its test accuracy on each finished task, in %.
        means: of the tasks' means, in %, only those whose tasks are all finished: each group's, T over all
            tasks and G over the groups; without groups only `mean`, over all tasks. The deviation is that
            between the seeds that have finished every task.
        seeds: fewest of any task.
        diverged: how many of its trainings gave no usable model; each counts as an accuracy of 0.
        costs: means of the columns over the other trainings; empty where there are none.
    """

    method: str
    by_task: Mapping[str, Spread]
    means: Mapping[str, Spread]
    seeds: int
    diverged: int
    costs: Mapping[str, float]


def write_comparison(out: Path, rows: Sequence[ComparisonRow], machine: Mapping[str, str]) -> str:
    """The files of `write_results`, and tuning.csv; returns the Markdown."""
    final = [row for row in rows if row["stage"] == "final"]
    _write_rows(out / "tuning.csv", [row for row in rows if row["stage"] == "tuning"])
    tasks = list(dict.fromkeys(row["task"] for row in final))
    found = lines(final, tasks, {}, _COLUMNS)
    head = report_head("Comparison", machine)
    return write_results(out, final, head, found, table(found, tasks, _COLUMNS))


def write_results(
    out: Path,
    rows: Sequence[ComparisonRow],
    head: Sequence[str],
    found: Sequence[Line],
    cells: Sequence[Sequence[str]],
    *,
    below: Sequence[str] = (),
    tasks_down: bool = False,
) -> str:
    """results.csv, results.md, results.tex and pareto.png in a folder; returns the Markdown.

    `tasks_down` turns the Markdown table: nineteen columns are too wide to read.
    """
    first, *others = zip(*cells, strict=True) if tasks_down else cells
    text = "\n".join([*head, "", *markdown_table(first, others), "", *below])
    _write_rows(out / "results.csv", rows)
    write_atomic(out / "results.md", text.encode())
    write_atomic(out / "results.tex", latex_table(cells[0], cells[1:]).encode())
    write_atomic(out / "pareto.png", pareto(found))
    return text


def lines(
    rows: Sequence[ComparisonRow], tasks: Sequence[str], groups: Groups, columns: Columns
) -> list[Line]:
    """A line for each method, in the order of the rows, which are those of final trainings."""
    methods = dict.fromkeys(row["method"] for row in rows)
    return [
        _line(method, [row for row in rows if row["method"] == method], tasks, groups, columns)
        for method in methods
    ]


def _line(
    method: str, rows: Sequence[ComparisonRow], tasks: Sequence[str], groups: Groups, columns: Columns
) -> Line:
    accuracies: dict[str, list[float]] = {}
    for row in rows:
        accuracies.setdefault(row["task"], []).append(_accuracy(row))
    by_task = {task: spread(values) for task, values in accuracies.items()}
    measured = [row for row in rows if not row["diverged"]]
    return Line(
        method=method,
        by_task=by_task,
        means=_means(by_task, groups, _over_all(rows, by_task, tasks)),
        seeds=min(map(len, accuracies.values())),
        diverged=len(rows) - len(measured),
        costs={
            name: statistics.mean(known)
            for name in columns
            if (known := [row[name] for row in measured if row.get(name) is not None])
        },
    )


def _over_all(
    rows: Sequence[ComparisonRow], by_task: Mapping[str, Spread], tasks: Sequence[str]
) -> Spread | None:
    """Over all tasks; None where one is not finished."""
    if not set(tasks) <= by_task.keys():
        return None
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        by_seed.setdefault(row["seed"], []).append(_accuracy(row))
    whole = [statistics.mean(values) for values in by_seed.values() if len(values) == len(tasks)]
    deviation = spread(whole).deviation if whole else None
    return Spread(statistics.mean(by_task[task].mean for task in tasks), deviation)


def _means(by_task: Mapping[str, Spread], groups: Groups, total: Spread | None) -> dict[str, Spread]:
    found = {
        name: Spread(statistics.mean(by_task[task].mean for task in members), None)
        for name, members in groups.items()
        if set(members) <= by_task.keys()
    }
    if total is None:
        return found
    if not found:
        return {"mean": total}
    over_groups = Spread(statistics.mean(group.mean for group in found.values()), None)
    return found | {"T": total, "G": over_groups}


def _accuracy(row: ComparisonRow) -> float:
    """In %; a training that diverged has none."""
    return 0.0 if row["diverged"] else 100 * row["accuracy"]


def table(found: Sequence[Line], tasks: Sequence[str], columns: Columns) -> list[list[str]]:
    """Head and a row for each method: test accuracy in %, mean ± standard deviation over seeds, and costs."""
    means = list(dict.fromkeys(name for line in found for name in line.means))
    some = [task for task in tasks if any(task in line.by_task for line in found)]
    cells = [["method", *means, *some, "seeds", *(title for title, _ in columns.values())]]
    for line in found:
        seeds = f"{line.seeds} ({line.diverged} diverged)" if line.diverged else str(line.seeds)
        row = [line.method]
        row += [line.means[name].text(2) if name in line.means else _NOTHING for name in means]
        row += [line.by_task[task].text() if task in line.by_task else _NOTHING for task in some]
        costs = [
            format(line.costs[name], form) if name in line.costs else _NOTHING
            for name, (_, form) in columns.items()
        ]
        cells.append([*row, seeds, *costs])
    return cells


def pareto(found: Sequence[Line]) -> bytes:
    """A PNG: mean accuracy of methods that are complete against tuned parameters without the head.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    with needs("bench", "Pictures are drawn by matplotlib"):
        from matplotlib.figure import Figure
    figure, picture = Figure(figsize=(7.5, 5), layout="constrained"), io.BytesIO()
    axes = figure.add_subplot()
    for line in found:
        total = line.means.get("T", line.means.get("mean"))
        if total is None or not line.costs:
            continue
        name, x = line.method, max(line.costs["num_tuned"], 1)  # a logarithm needs one
        axes.plot(x, total.mean, "o", color="tab:red" if name.startswith("e2vpt") else "tab:blue")
        axes.annotate(name, (x, total.mean), xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.set(xscale="log", xlabel="tuned parameters without the head", ylabel="mean test accuracy, %")
    axes.grid(alpha=0.3)
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()


def _write_rows(path: Path, rows: Sequence[ComparisonRow]) -> None:
    """A table of all that the rows have; none where there are none."""
    if rows:
        known = [row | {"accuracy": 0.0} if row.get("diverged") else row for row in rows]
        write_csv(path, known, list(dict.fromkeys(name for row in known for name in row)))
