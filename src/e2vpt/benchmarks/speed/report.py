"""The report of `e2vpt bench speed`: Markdown for people, CSV for programs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from e2vpt.benchmarks.machine import report_head
from e2vpt.benchmarks.speed.measure import SpeedRow, case_in_words
from e2vpt.benchmarks.speed.names import PROMPTED
from e2vpt.benchmarks.tables import markdown_table
from e2vpt.files.atomic import write_atomic, write_csv

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
    "e2vpt-scale": "ours, biases and output scales tuned beside prompts",
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


def write_report(out: Path, rows: Sequence[SpeedRow], machine: Mapping[str, str]) -> str:
    """speed.md and speed.csv in a folder; returns the Markdown, a table for each case and mode."""
    lines = [*report_head("Speed and memory", machine), _LEGEND]
    for title, group in itertools.groupby(rows, key=_title):
        lines += [f"## {title}", "", *_table(list(group)), ""]
    text = "\n".join(lines)
    write_csv(out / "speed.csv", rows, list(rows[0]))
    write_atomic(out / "speed.md", text.encode())
    return text


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
