"""The report of a benchmark: the table of what was measured, and its means beside the printed ones."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2vpt.benchmarks.compare.report import escaped, plot
from e2vpt.benchmarks.compare.trial import ComparisonRow
from e2vpt.benchmarks.machine import report_head
from e2vpt.benchmarks.spread import Spread, spread
from e2vpt.benchmarks.suite.published import Published, published
from e2vpt.benchmarks.suite.tasks import Suite
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
        values = {
            task: [100 * row["accuracy"] for row in own if row["task"] == task]
            for task in suite.tasks
            if any(row["task"] == task for row in own)
        }
        by_task = {task: spread(v) for task, v in values.items()}
        lines.append(
            SuiteLine(
                method=method,
                by_task=by_task,
                means=_means(suite, by_task),
                tuned=statistics.mean(100 * row["num_tuned"] / row["num_backbone"] for row in own),
                with_head=statistics.mean(
                    100 * (row["num_tuned"] + row["num_head"]) / row["num_backbone"] for row in own
                ),
                seeds=min(map(len, values.values())),
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
    text = [
        *report_head(f"{suite.kind.upper()}, images from {suite.source}", machine),
        "",
        note,
        "",
        *suite_markdown(suite, lines),
        "",
        *published_markdown(suite, lines, published(backbone)),
        "",
    ]
    write_csv(out / "results.csv", [{name: row.get(name) for name in _COLUMNS} for row in rows], _COLUMNS)
    write_atomic(out / "results.md", "\n".join(text).encode())
    write_atomic(out / "results.tex", suite_latex(suite, lines).encode())
    points = [
        (line.method, line.tuned, statistics.mean(s.mean for s in line.by_task.values()))
        for line in lines
        if len(line.by_task) == len(suite.tasks)
    ]
    write_atomic(
        out / "pareto.png", plot(points, "tuned parameters without the head, % of the backbone", 1e-3)
    )
    return "\n".join(text)


def suite_markdown(suite: Suite, lines: Sequence[SuiteLine]) -> list[str]:
    """Test accuracy in %, mean ± standard deviation over seeds: tasks down, methods across, as 19 columns are
    too wide to read."""
    head = ["", *(line.method for line in lines)]
    out = [f"| {' | '.join(head)} |", "|---" + "|---:" * len(lines) + "|"]
    for task in suite.tasks:
        cells = [line.by_task[task].text() if task in line.by_task else _NOTHING for line in lines]
        out.append(f"| {task} | {' | '.join(cells)} |")
    for name in dict.fromkeys(name for line in lines for name in line.means):
        cells = [f"**{line.means[name]:.2f}**" if name in line.means else _NOTHING for line in lines]
        out.append(f"| **{name}** | {' | '.join(cells)} |")
    out.append(f"| tuned, % | {' | '.join(f'{line.tuned:.3f}' for line in lines)} |")
    out.append(f"| with head, % | {' | '.join(f'{line.with_head:.3f}' for line in lines)} |")
    return [*out, f"| seeds | {' | '.join(str(line.seeds) for line in lines)} |"]


def published_markdown(
    suite: Suite, lines: Sequence[SuiteLine], printed: Mapping[str, Published]
) -> list[str]:
    """Means beside those that the papers print, and the differences; of methods and means that both have."""
    rows = []
    for line in lines:
        if line.method in printed:
            values = _printed(suite, printed[line.method])
            for name in values:
                if name in line.means:
                    ours, theirs = line.means[name], values[name]
                    rows.append(
                        f"| {line.method} | {name} | {ours:.2f} | {theirs:.2f} | {ours - theirs:+.2f} |"
                    )
    if not printed:
        return ["The papers print no numbers for this backbone."]
    if not rows:
        return ["No group is complete for a method that the papers print numbers of."]
    head = ["| method | mean | here | printed | difference |", "|---|---|---:|---:|---:|"]
    return ["## Beside the published numbers", "", *head, *rows]


def suite_latex(suite: Suite, lines: Sequence[SuiteLine]) -> str:
    """The papers' form: methods down, tasks and means across."""
    names = list(dict.fromkeys(name for line in lines for name in line.means))
    body = []
    for line in lines:
        cells = [f"${line.by_task[t].mean:.1f}$" if t in line.by_task else "--" for t in suite.tasks]
        cells += [f"${line.means[n]:.2f}$" if n in line.means else "--" for n in names]
        body.append(" & ".join([escaped(line.method), f"${line.tuned:.2f}$", *cells]) + r" \\")
    head = " & ".join(["method", r"tuned, \%", *map(escaped, [*suite.tasks, *names])]) + r" \\"
    columns = "r" * head.count(" & ")
    rows = "\n".join([head, r"\hline", *body])
    return f"\\begin{{tabular}}{{l{columns}}}\n{rows}\n\\end{{tabular}}\n"


def _means(suite: Suite, by_task: Mapping[str, Spread]) -> dict[str, float]:
    groups = suite.groups()
    means = {
        name: statistics.mean(by_task[task].mean for task in tasks)
        for name, tasks in groups.items()
        if set(tasks) <= set(by_task)
    }
    whole = suite.whole()
    if not set(whole) <= set(by_task):
        return means
    total = statistics.mean(by_task[task].mean for task in whole)
    if not groups:
        return {"mean": total}
    return means | {"T": total, "G": statistics.mean(means.values())}


def _printed(suite: Suite, row: Published) -> dict[str, float]:
    return row.means() if suite.kind == "vtab" else {"mean": row.fgvc}
