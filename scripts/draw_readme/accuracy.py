"""Accuracy against trained parameters, of the comparison on fourteen tasks (docs/results.md)."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from scripts.draw_readme.theme import VISUAL, Theme
from scripts.group_table import TASKS, accuracies, seed_means

ROWS = Path(__file__).resolve().parents[2] / "docs" / "experiments" / "compare-14-tasks-96px-24-epochs.jsonl"


@dataclass(frozen=True)
class Point:
    """A method: trained parameters with the head, accuracy in %, its deviation over seeds, their number."""

    parameters: float
    accuracy: float
    deviation: float
    seeds: int


def read_rows(path: Path = ROWS) -> list[dict[str, Any]]:
    """The trainings."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def points(rows: Iterable[Mapping[str, Any]]) -> dict[str, Point]:
    """Every method; means over tasks, of the seeds that have all of them."""
    rows, found = list(rows), {}
    for method, seeds in accuracies(rows, "test").items():
        means = list(seed_means(seeds, TASKS).values())
        size = statistics.mean(row["num_tuned"] + row["num_head"] for row in rows if row["method"] == method)
        deviation = statistics.stdev(means) if len(means) > 1 else 0.0
        found[method] = Point(size, statistics.mean(means), deviation, len(means))
    return found


# method: label, whether it is ours, offset of the label in points, side.
SHOWN = {
    "e2vpt": ("e2vpt, default recipe", True, (-9, 4), "right"),
    "e2vpt-no-prune": ("e2vpt, not pruned", True, (9, -2), "left"),
    "lora": ("LoRA", False, (-9, -2), "right"),
    "dora": ("DoRA", False, (-9, -12), "right"),
    "adapter": ("adapter", False, (9, -5), "left"),
    "bias": ("biases", False, (-9, -4), "right"),
    "vpt-deep": ("VPT-deep", False, (-9, -4), "right"),
    "layernorm": ("LayerNorm", False, (-9, -4), "right"),
    "ssf": ("scales and biases (SSF)", False, (9, -6), "left"),
    "full": ("full fine-tuning", False, (0, -20), "center"),
}


def plot_accuracy(axes: Axes, theme: Theme) -> None:
    """One point for each method."""
    shown = points(read_rows())
    for method, (label, ours, offset, side) in SHOWN.items():
        _dot(axes, shown[method], label, VISUAL if ours else theme.faint, offset, side, theme)
    seeds = sorted({point.seeds for point in shown.values()})
    number = " to ".join(map(str, [seeds[0], *seeds[1:][-1:]])) + (" seed" if seeds == [1] else " seeds")
    axes.set_xscale("log")
    axes.set_xlim(2e3, 1.4e7)
    axes.set_ylim(73.5, 84)
    axes.set_xticks([1e4, 1e5, 1e6, 1e7], ["10 k", "100 k", "1 M", "10 M"])
    axes.set_xlabel("trained parameters per task, head included")
    axes.set_ylabel("test accuracy, %")
    title = f"ViT-Tiny, 96 px, mean of {len(TASKS)} tasks, 24 epochs in all for every method, {number}"
    axes.set_title(title, fontsize=10, color=theme.faint, loc="left")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set_color(theme.edge)
    axes.tick_params(which="both", colors=theme.faint)
    axes.xaxis.label.set_color(theme.text)
    axes.yaxis.label.set_color(theme.text)
    axes.grid(color=theme.edge, alpha=0.25, linewidth=0.6)


def _dot(
    axes: Axes, point: Point, label: str, colour: str, offset: tuple[int, int], side: str, theme: Theme
) -> None:
    at, ours = (point.parameters, point.accuracy), colour == VISUAL
    axes.errorbar(*at, yerr=point.deviation, color=colour, linewidth=1.2, capsize=2, zorder=2)
    axes.plot(*at, "o", markersize=8, color=colour, zorder=3)
    axes.annotate(
        label,
        at,
        xytext=offset,
        textcoords="offset points",
        ha=side,
        fontsize=10,
        color=colour if ours else theme.text,
        weight="bold" if ours else "normal",
    )
