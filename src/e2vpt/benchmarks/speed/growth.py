"""`e2vpt bench growth`: how time and memory grow with prompts, batch, image size and blocks.

Each axis is a small `bench speed` of the plain forward pass and ours, with a straight line for every curve.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from e2vpt.benchmarks.figures import as_png, new_figure
from e2vpt.benchmarks.machine import report_head
from e2vpt.benchmarks.speed.contestants import Case
from e2vpt.benchmarks.speed.measure import SpeedConfig, SpeedRow, measure_speed
from e2vpt.files.atomic import write_atomic, write_csv

AXES = {
    "prompts": ("num_visual", 1.0, "prompt"),
    "batch": ("batch_size", 1.0, "image"),
    "size": ("pixels", 1e3, "1,000 pixels"),
    "blocks": ("depth", 1.0, "block"),
}
"""Axis: the field of a row, what of it is one step, and the name of that step."""

_QUANTITIES = {"seconds": (1e3, "ms"), "peak_mib": (1.0, "MiB")}
_CURVES = (("plain", "inference"), ("e2vpt", "inference"), ("e2vpt", "step"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """A straight line through a curve, by least squares.

    Attributes:
        axis, method, mode, quantity: which curve.
        slope, intercept: in ms or MiB, for each step of the axis and at zero.
        r2: share of the variance that the line explains.
    """

    axis: str
    method: str
    mode: str
    quantity: str
    slope: float
    intercept: float
    r2: float


def growth_configs(
    base: Case,
    *,
    num_visual: Sequence[int],
    batch_sizes: Sequence[int],
    image_sizes: Sequence[int],
    depths: Sequence[int],
    rounds: int,
) -> dict[str, SpeedConfig]:
    """What is measured for each axis: the base case with one thing changed, and 10 prompts by default."""
    cases = {
        "batch": [dataclasses.replace(base, batch_size=size) for size in batch_sizes],
        "size": [dataclasses.replace(base, image_size=side) for side in image_sizes],
        "blocks": [dataclasses.replace(base, depth=depth) for depth in depths],
    }
    prompts = SpeedConfig(cases=[base], methods=("e2vpt",), num_visual=num_visual, rounds=rounds)
    others = {
        axis: SpeedConfig(cases=found, methods=("e2vpt",), num_visual=(10,), rounds=rounds)
        for axis, found in cases.items()
    }
    return {"prompts": prompts, **others}


def measure_growth(
    configs: Mapping[str, SpeedConfig],
    out: Path,
    *,
    on_stage: Callable[[str], None] = lambda text: None,
    on_call: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, list[SpeedRow]]:
    """The rows of every axis, kept in a folder each, so that a killed measurement goes on."""
    found = {}
    for axis, config in configs.items():
        found[axis] = measure_speed(config, out / axis, on_stage=on_stage, on_call=on_call)
    return found


def curve(rows: Sequence[SpeedRow], axis: str, method: str, mode: str, quantity: str) -> tuple[Any, Any]:
    """One curve: steps of the axis, and ms or MiB at each."""
    name, unit, _ = AXES[axis]
    chosen = [row for row in rows if (row["method"], row["mode"]) == (method, mode)]
    points = sorted(
        ((row["image_size"] ** 2 if name == "pixels" else row[name]) / unit, row[quantity]) for row in chosen
    )
    steps, values = np.array([p[0] for p in points]), np.array([p[1] for p in points])
    return steps, values * _QUANTITIES[quantity][0]


def fits(found: Mapping[str, list[SpeedRow]]) -> list[Fit]:
    """The line of every curve that has at least two steps."""
    lines = []
    for axis, rows in found.items():
        for method, mode in _CURVES:
            for quantity in _QUANTITIES:
                x, y = curve(rows, axis, method, mode, quantity)
                if len(set(x)) < 2:
                    continue
                slope, intercept = (_rounded(value, y) for value in np.polyfit(x, y, 1))
                rest, spread = y - (slope * x + intercept), y - y.mean()
                r2 = 1 - float(rest @ rest) / float(spread @ spread) if spread.any() else 1.0
                lines.append(
                    Fit(
                        axis=axis,
                        method=method,
                        mode=mode,
                        quantity=quantity,
                        slope=slope,
                        intercept=intercept,
                        r2=r2,
                    )
                )
    return lines


def _rounded(value: float, y: Any) -> float:
    """Zero where nothing but rounding is left of a flat curve."""
    return 0.0 if abs(value) < 1e-9 * float(np.abs(y).max()) else float(value)


def write_growth(out: Path, found: Mapping[str, list[SpeedRow]], machine: Mapping[str, str]) -> str:
    """growth.md, growth.csv and growth.png in a folder; returns the Markdown."""
    lines = fits(found)
    text = [*report_head("How cost grows", machine), ""]
    text += ["A straight line by least squares; R² says how straight the curve is.", ""]
    text += ["| axis | what | slope | at zero | R² |", "|---|---|---|---|---|"]
    for fit in lines:
        unit, step = _QUANTITIES[fit.quantity][1], AXES[fit.axis][2]
        what = f"{'plain' if fit.method == 'plain' else 'ours'}, {fit.mode}, {unit}"
        text.append(
            f"| {fit.axis} | {what} | {fit.slope:.3g} {unit} per {step} "
            f"| {fit.intercept:.3g} | {fit.r2:.3f} |"
        )
    rows = [{"axis": axis, **row} for axis, group in found.items() for row in group]
    write_csv(out / "growth.csv", rows, list(rows[0]))
    write_atomic(out / "growth.png", _picture(found))
    markdown = "\n".join([*text, ""])
    write_atomic(out / "growth.md", markdown.encode())
    return markdown


def _picture(found: Mapping[str, list[SpeedRow]]) -> bytes:
    """Time above, memory below, an axis a column, with the slope of every line."""
    figure = new_figure(4.2 * len(found), 6.5)
    slopes = {(f.axis, f.quantity, f.method, f.mode): f.slope for f in fits(found)}
    for column, (axis, rows) in enumerate(found.items()):
        for line, (quantity, (_, unit)) in enumerate(_QUANTITIES.items()):
            axes = figure.add_subplot(2, len(found), line * len(found) + column + 1)
            for method, mode in _CURVES:
                x, y = curve(rows, axis, method, mode, quantity)
                slope = slopes.get((axis, quantity, method, mode))
                label = f"{'plain' if method == 'plain' else 'ours'}, {mode}"
                if slope is not None:
                    label += f": {slope:.3g} {unit} per {AXES[axis][2]}"
                axes.plot(x, y, "-o", label=label)
            axes.set(xlabel=axis if axis != "size" else "image size (1,000 pixels)", ylabel=unit)
            axes.set_ylim(bottom=0)
            axes.legend(fontsize=7)
    return as_png(figure)
