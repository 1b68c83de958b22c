"""The report of `e2vpt bench speed`: Markdown for people, CSV for programs, a picture of the ratios."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from e2vpt.benchmarks.figures import as_png, new_figure
from e2vpt.benchmarks.machine import report_head
from e2vpt.benchmarks.speed.contestants import PROMPTED
from e2vpt.benchmarks.speed.measure import SpeedRow, case_in_words
from e2vpt.benchmarks.tables import markdown_table
from e2vpt.files.atomic import write_atomic, write_csv

_CASE = ("backbone", "image_size", "depth", "precision", "batch_size", "device", "num_classes", "mode")
_TITLES = {
    "plain": "plain frozen forward",
    "linear": "linear probe",
    "full": "full fine-tuning",
    "bias": "bias tuning",
    "lora": "LoRA r = 8 (PEFT)",
    "carried": "prompts in the sequence, written out",
    "carried-fused": "prompts in the sequence, fused attention",
    "e2vpt": "ours",
    "e2vpt-bias": "ours, biases tuned beside prompts",
    "late": "ours from the middle block on, tokens before it stored",
}
_LEGEND = """
Time is a call's time divided by that of the plain frozen forward pass in the same round: the median over the
rounds, and the smallest and largest. Calls take turns. Our inference is folded (`e2vpt.folded`), as in
`e2vpt predict`. A step is forward, backward and AdamW. FLOPs count matrix products, convolutions, attention,
relative to the plain forward pass. Peak is what a call allocates at most at a time; kept is what of it a
forward pass keeps for the backward pass. The last column is how many times faster ours is than the official
form (prompts in the sequence, attention written out) with as many prompts.
"""


def write_report(out: Path, rows: Sequence[SpeedRow], machine: Mapping[str, str]) -> None:
    """speed.md, speed.csv and speed.png in a folder.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    write_csv(out / "speed.csv", rows, list(rows[0]))
    write_atomic(out / "speed.md", speed_markdown(rows, machine).encode())
    write_atomic(out / "speed.png", speed_picture(rows))


def speed_markdown(rows: Sequence[SpeedRow], machine: Mapping[str, str]) -> str:
    """The report's text: how it was measured, then a table for each case and mode."""
    lines = [*report_head("Speed and memory", machine), _LEGEND]
    for case, group in _cases(rows):
        lines += [f"## {case}", "", *_table(group), ""]
    return "\n".join(lines)


def _cases(rows: Iterable[SpeedRow]) -> list[tuple[str, list[SpeedRow]]]:
    """Rows of the same case and mode together, with its name."""
    groups = itertools.groupby(rows, key=lambda row: tuple(row[name] for name in _CASE))
    return [(_title(group[0]), group) for group in (list(found) for _, found in groups)]


def _title(row: SpeedRow) -> str:
    return f"{case_in_words(row)}: {'training step' if row['mode'] == 'step' else 'inference'}"


def _table(rows: list[SpeedRow]) -> list[str]:
    is_step = rows[0]["mode"] == "step"
    head = ["method", "prompts", "tuned", "time", "images/s", "FLOPs", "peak MiB"]
    head += ["kept MiB", "over official"] if is_step else ["over official"]
    cells = []
    official = {row["num_visual"]: row["seconds"] for row in rows if row["method"] == "carried"}
    for row in rows:
        faster = official.get(row["num_visual"], 0.0) / row["seconds"] if row["method"] == "e2vpt" else 0.0
        cells.append(
            [
                _TITLES[row["method"]],
                str(row["num_visual"]) if row["method"] in PROMPTED else "",
                f"{row['num_tuned']:,}",
                f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})",
                f"{row['images_per_second']:.1f}",
                f"{row['flop_ratio']:.3f}",
                f"{row['peak_mib']:.0f}",
                *([f"{row['saved_mib']:.0f}"] if is_step else []),
                f"{faster:.2f}" if faster else "",
            ]
        )
    return markdown_table(head, cells)


def speed_picture(rows: Sequence[SpeedRow]) -> bytes:
    """A PNG: time ratio against prompts, a panel for each case and mode."""
    cases = _cases(rows)
    columns = min(2, len(cases))
    height = -(-len(cases) // columns)
    figure = new_figure(6.5 * columns, 4 * height)
    for index, (title, group) in enumerate(cases):
        _panel(figure.add_subplot(height, columns, index + 1), title, group)
    return as_png(figure)


def _panel(axes: Any, title: str, rows: list[SpeedRow]) -> None:
    styles = {"e2vpt": "-o", "carried-fused": "--s", "carried": "-^", "late": "-v"}
    for method, style in styles.items():
        points = [(row["num_visual"], row["ratio"]) for row in rows if row["method"] == method]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=_TITLES[method])
    colors = {"plain": "0.2", "linear": "0.6", "lora": "tab:purple", "full": "tab:red"}
    for row in rows:
        if row["method"] in colors:
            name = row["method"]
            axes.axhline(row["ratio"], color=colors[name], linestyle=":", label=_TITLES[name])
    axes.set(title=title, xlabel="visual prompts", ylabel="time / plain forward")
    axes.title.set_fontsize(9)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7)
