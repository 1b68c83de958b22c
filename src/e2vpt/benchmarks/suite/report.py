"""The report of a benchmark: the table of what was measured, and its means beside the printed ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from e2vpt.benchmarks.compare.report import Columns, Line, lines, table, write_results
from e2vpt.benchmarks.compare.trial import ComparisonRow
from e2vpt.benchmarks.machine import report_head
from e2vpt.benchmarks.suite.published import published_means
from e2vpt.benchmarks.suite.tasks import Suite
from e2vpt.benchmarks.tables import markdown_table

SUITE_COLUMNS: Columns = {
    "num_tuned": ("tuned", ",.0f"),
    "tuned_percent": ("tuned, %", ".3f"),
    "with_head_percent": ("with head, %", ".3f"),
}
"""Shares of the backbone's parameters that are tuned."""


def write_suite(
    out: Path,
    suite: Suite,
    rows: Sequence[ComparisonRow],
    machine: Mapping[str, str],
    *,
    backbone: str,
    note: str,
) -> str:
    """The files of `write_results`, the published means below the table; returns the Markdown.

    `note` says in words by which protocol; `backbone` is the name whose published numbers are shown.
    """
    found = lines(rows, suite.whole(), suite.groups(), SUITE_COLUMNS)
    head = [*report_head(f"{suite.kind.upper()}, images from {suite.source}", machine), "", note]
    below = [*published_markdown(found, published_means(suite.kind, backbone)), ""]
    cells = table(found, suite.whole(), SUITE_COLUMNS)
    return write_results(out, rows, head, found, cells, below=below, tasks_down=True)


def published_markdown(found: Sequence[Line], printed: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Means beside those that the papers print, and the differences; of methods and means that both have."""
    if not printed:
        return ["The papers print no numbers for this backbone."]
    rows = []
    for line in found:
        for name, theirs in printed.get(line.method, {}).items():
            if name in line.means:
                ours = line.means[name].mean
                rows.append([line.method, name, f"{ours:.2f}", f"{theirs:.2f}", f"{ours - theirs:+.2f}"])
    if not rows:
        return ["No group is complete for a method that the papers print numbers of."]
    cells = markdown_table(["method", "mean", "here", "printed", "difference"], rows, texts=2)
    return ["## Beside the published numbers", "", *cells]
