"""Charts: where points land, which numbers stand at the axes, and text that cannot leave its place."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2vpt.insight.reports.calibration import ReliabilityBin
from e2vpt.insight.reports.charts import Dot, Series, line_chart, reliability_diagram

NUMBERS = st.floats(-1e9, 1e9, allow_nan=False).filter(lambda x: x == 0 or abs(x) > 1e-9)


def parts(svg: str, tag: str) -> list[ElementTree.Element]:
    return [e for e in ElementTree.fromstring(svg).iter() if e.tag.rpartition("}")[2] == tag]


def points(svg: str) -> list[tuple[float, float]]:
    (line,) = parts(svg, "polyline")
    return [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]  # type: ignore[misc]


def test_points_lie_between_the_ticks_that_enclose_them() -> None:
    svg = line_chart("t", "epoch", [Series(name="s", points=[(1, 0.25), (2, 0.5), (3, 0.75)])])
    (x1, y1), (x2, y2), (x3, y3) = points(svg)
    assert x2 - x1 == pytest.approx(x3 - x2) and y1 - y2 == pytest.approx(y2 - y3)
    assert x1 < x2 < x3 and y1 > y2 > y3
    texts = {e.text: e.attrib for e in parts(svg, "text")}
    assert {"1", "2", "3", "epoch"} <= texts.keys()
    assert float(texts["2"]["x"]) == x2
    percents = {t: float(a["y"]) - 4 for t, a in texts.items() if t and t.endswith("%")}
    low, high = (min(percents, key=lambda t: float(t[:-1])), max(percents, key=lambda t: float(t[:-1])))
    assert percents[low] > y1 and percents[high] < y3
    assert y2 == pytest.approx(percents["50%"], abs=0.11)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=20))
def test_any_points_stay_inside(found: list[tuple[float, float]]) -> None:
    svg = line_chart("t", "x", [Series(name="s", points=found)], form="{:.3g}".format)
    assert all(0 <= x <= 360 and 0 <= y <= 210 for x, y in points(svg))
    is_flat = len({y for _, y in found}) == 1
    assert (1 if is_flat else 2) <= len(parts(svg, "line")) <= 8
    assert not re.search("nan|inf", svg)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5, 1e-12, 1e12])
def test_one_point_alone_is_a_circle(value: float) -> None:
    svg = line_chart("t", "x", [Series(name="s", points=[(1, value)])], form=str)
    (circle,) = parts(svg, "circle")
    assert all(math.isfinite(float(circle.attrib[name])) for name in ("cx", "cy"))


def test_dots_say_what_they_are() -> None:
    dots = [Dot(x=0, y=0, text="a"), Dot(x=1, y=1, text="b", filled=False)]
    svg = line_chart("t", "x", [], dots=dots)
    found = {circle[0].text: circle.attrib["class"] for circle in parts(svg, "circle")}
    assert found == {"a": "dot", "b": "dot open"}


def test_bars_are_as_high_as_their_accuracy() -> None:
    bins = [
        ReliabilityBin(low=i / 4, high=(i + 1) / 4, count=count, confidence=0.5, accuracy=accuracy)
        for i, (count, accuracy) in enumerate([(0, 0.0), (4, 0.25), (2, 0.5), (1, 1.0)])
    ]
    svg = reliability_diagram("t", bins)
    heights = [float(e.attrib["height"]) for e in parts(svg, "rect")]
    assert len(heights) == 3, "none of a bin without images"
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.2)
    assert heights[2] == pytest.approx(4 * heights[0], abs=0.2)
    assert "confidence 25% to 50%: 4 images, 25.0% right" in svg


def test_names_are_text() -> None:
    hostile = '"><script>x</script>'
    line, dot = Series(name=hostile, points=[(0, 0), (1, 1)]), Dot(x=0, y=0, text=hostile)
    svg = line_chart(hostile, hostile, [line], dots=[dot])
    root = ElementTree.fromstring(svg)
    assert root.attrib["aria-label"] == hostile
    assert not parts(svg, "script") and [e.text for e in parts(svg, "title")] == [hostile, hostile]
