"""The confusion matrix as a picture: a cell for each pair that occurs, as strong as its share."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import pytest
import torch

from e2vpt.insight.reports.confusion import heat_map


def parts(svg: str, tag: str) -> list[ElementTree.Element]:
    return [e for e in ElementTree.fromstring(svg).iter() if e.tag.rpartition("}")[2] == tag]


def test_cells_say_what_was_taken_for_what() -> None:
    table = torch.tensor([[3, 1], [0, 0]])
    svg = heat_map(table, ["<cat>", "dog"])
    ground, right, wrong = parts(svg, "rect")
    assert [e.attrib["class"] for e in (ground, right, wrong)] == ["ground", "right", "wrong"]
    assert right[0].text == "<cat> taken for <cat>: 3 (75%)"
    assert wrong[0].text == "<cat> taken for dog: 1 (25%)"
    assert float(right.attrib["fill-opacity"]) == pytest.approx(0.12 + 0.88 * 0.75, abs=0.005)
    assert float(wrong.attrib["x"]) > float(right.attrib["x"]) and wrong.attrib["y"] == right.attrib["y"]
    assert {"3", "1"} <= {e.text for e in parts(svg, "text")}


@pytest.mark.parametrize("count", [2, 12, 13, 43, 102, 397, 1000])
def test_numbers_along_the_sides_do_not_overlap(count: int) -> None:
    svg = heat_map(torch.eye(count, dtype=torch.int64), [str(i) for i in range(count)])
    assert len(parts(svg, "rect")) == count + 1
    tops = [e for e in parts(svg, "text") if float(e.attrib["y"]) == 28]
    spans = [(float(e.attrib["x"]), 6.5 * len(e.text or "")) for e in tops]  # middle and width
    assert len(spans) >= 2 and tops[0].text == "1"
    assert all(b - a >= (v + w) / 2 for (a, v), (b, w) in pairwise(spans))
    assert all(x - w / 2 >= 0 and x + w / 2 <= 480 for x, w in spans), "nothing is cut off"


def test_counts_stand_in_few_cells_only() -> None:
    for count, inside in ((12, 12), (13, 0)):
        svg = heat_map(7 * torch.eye(count, dtype=torch.int64), ["x"] * count)
        cells = [e for e in parts(svg, "text") if e.attrib.get("class") in ("on", "off")]
        assert [e.text for e in cells] == ["7"] * inside
