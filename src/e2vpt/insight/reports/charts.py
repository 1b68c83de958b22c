"""Small charts as inline SVG; colours and fonts come from the page's style sheet, so both themes work."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from e2vpt.insight.reports.calibration import ReliabilityBin

_WIDTH, _HEIGHT = 360, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 18, 10, 34
_INNER_W, _INNER_H = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """A line of a chart: its name and its points (x, y)."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Dot:
    """A marked point: what it is, and whether it is filled."""

    x: float
    y: float
    text: str
    filled: bool = True


def as_percent(value: float) -> str:
    """A share as axes show it."""
    return f"{value:.0%}"


def line_chart(
    title: str,
    x_title: str,
    series: Sequence[Series],
    *,
    dots: Sequence[Dot] = (),
    form: Callable[[float], str] = as_percent,
) -> str:
    """Lines over a common x axis; `dots` are drawn upon them, `form` writes the numbers of the y axis."""
    points = [point for line in series for point in line.points] + [(dot.x, dot.y) for dot in dots]
    at, frame = _axes([x for x, _ in points], [y for _, y in points], form, x_title)
    lines = [_line(at, line, index) for index, line in enumerate(series)]
    return _svg(title, [*frame, *lines, *(_dot(at, dot) for dot in dots)])


def reliability_diagram(title: str, bins: Sequence[ReliabilityBin]) -> str:
    """Accuracy of the images of each bin of confidence, beside the diagonal on which both are equal."""
    at, frame = _axes([0, 1], [0, 1], as_percent, "confidence", x_form=as_percent)
    bars = []
    for b in bins:
        if b.count:
            (x1, y), (x2, zero) = at(b.low, b.accuracy), at(b.high, 0)
            said = f"confidence {b.low:.0%} to {b.high:.0%}: {b.count} images, {b.accuracy:.1%} right"
            bars.append(
                f'<rect class="bar" x="{x1 + 1:.1f}" y="{y:.1f}" width="{x2 - x1 - 2:.1f}" '
                f'height="{max(0.5, zero - y):.1f}"><title>{said}</title></rect>'
            )
    (x0, y0), (x1, y1) = at(0, 0), at(1, 1)
    diagonal = f'<line class="even" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>'
    return _svg(title, [*frame, *bars, diagonal])


def _axes(
    xs: Sequence[float],
    ys: Sequence[float],
    form: Callable[[float], str],
    x_title: str,
    x_form: Callable[[float], str] = "{:g}".format,
) -> tuple[Callable[[float, float], tuple[float, float]], list[str]]:
    """From values to pixels, and grid lines with numbers."""
    x_ticks, y_ticks = _ticks(min(xs), max(xs), whole=x_form is not as_percent), _ticks(min(ys), max(ys))
    x_low, x_high = min(*xs, x_ticks[0]), max(*xs, x_ticks[-1])
    y_low, y_high = min(*ys, y_ticks[0]), max(*ys, y_ticks[-1])

    def at(x: float, y: float) -> tuple[float, float]:
        along, up = (x - x_low) / ((x_high - x_low) or 1), (y - y_low) / ((y_high - y_low) or 1)
        return _LEFT + along * _INNER_W, _TOP + (1 - up) * _INNER_H

    parts = []
    for tick in y_ticks:
        y = at(x_low, tick)[1]
        parts.append(
            f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{form(tick)}</text>'
        )
    for tick in x_ticks:
        x = at(tick, y_low)[0]
        parts.append(
            f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 14}" text-anchor="middle">{x_form(tick)}</text>'
        )
    middle = _LEFT + _INNER_W / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 4}" text-anchor="middle">{escape(x_title)}</text>')
    return at, parts


def _ticks(low: float, high: float, whole: bool = False) -> list[float]:
    """About five round numbers that enclose a range."""
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** (math.floor(math.log10(span)) - 1)
    step = next(s * power for s in (1, 2, 2.5, 5, 10, 20, 25, 50, 100) if span / (s * power) <= 5)
    step = max(1.0, round(step)) if whole else step
    first = int(low // step)
    ticks = [first * step]
    while ticks[-1] < high - step * 1e-9:
        ticks.append((first + len(ticks)) * step)
    if whole:  # an axis of epochs begins and ends with one
        ticks = [t for t in ticks if low <= t <= high] or [low]
    return ticks


def _line(at: Callable[[float, float], tuple[float, float]], line: Series, index: int) -> str:
    path = " ".join("{:.1f},{:.1f}".format(*at(x, y)) for x, y in line.points)
    name = f"<title>{escape(line.name)}</title>"
    if len(line.points) == 1:
        x, y = at(*line.points[0])
        return f'<circle class="s{index}" cx="{x:.1f}" cy="{y:.1f}" r="3">{name}</circle>'
    return f'<polyline class="s{index}" points="{path}">{name}</polyline>'


def _dot(at: Callable[[float, float], tuple[float, float]], dot: Dot) -> str:
    x, y = at(dot.x, dot.y)
    kind = "dot" if dot.filled else "dot open"
    return (
        f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{escape(dot.text)}</title></circle>'
    )


def _svg(title: str, parts: Sequence[str]) -> str:
    head = f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
    return "".join([head, *parts, "</svg>"])
