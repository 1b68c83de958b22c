"""The report of `e2vpt bench serve`: Markdown for people, CSV for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from e2vpt.benchmarks.load.generator import Load, LoadAnswers
from e2vpt.benchmarks.machine import report_head
from e2vpt.benchmarks.tables import markdown_table
from e2vpt.files.atomic import write_atomic, write_csv

_PERCENTILES = (50, 95, 99)


def load_row(load: Load, answers: LoadAnswers) -> dict[str, float | str | None]:
    """The figures of one rate."""
    times = sorted(answers.latencies)
    shares = {
        f"p{p}_ms": 1000 * times[min(len(times) - 1, len(times) * p // 100)] if times else None
        for p in _PERCENTILES
    }
    others = {code: count for code, count in sorted(answers.codes.items()) if code != 200}
    return {
        "rate": load.rate,
        "answered_per_second": answers.codes[200] / answers.seconds,
        **shares,
        "images_of_a_batch": answers.images_of_a_batch,
        "tasks_of_a_batch": answers.tasks_of_a_batch,
        "requests": float(sum(answers.codes.values())),
        "other_codes": ", ".join(f"{code}: {count}" for code, count in others.items()),
    }


def write_load_report(
    out: Path, load: Load, rows: Sequence[Mapping[str, float | str | None]], machine: Mapping[str, str]
) -> str:
    """serve.md and serve.csv in a folder; returns the Markdown."""
    head = ["asked, 1/s", "answered, 1/s", *(f"p{p}, ms" for p in _PERCENTILES), "images a batch"]
    head += ["tasks a batch", "requests", "other than 200"]
    cells = [[_text(row[name]) for name in row] for row in rows]
    lines = [*report_head("A server under load", machine), f"* tasks: {len(load.tasks)}", ""]
    lines += [
        "Requests of one image come at random moments, whatever the server answers. Latency counts from the",
        "moment a request is due to the end of its answer. 429 and 503 are a full server's documented",
        "refusals, 0 a connection that broke.",
        "",
        *markdown_table(head, cells, texts=0),
        "",
    ]
    text = "\n".join(lines)
    write_csv(out / "serve.csv", [dict(row) for row in rows], list(rows[0]))
    write_atomic(out / "serve.md", text.encode())
    return text


def _text(value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"
