"""scripts/draw_readme: its points are the figures of docs/results.md, and its files are well-formed."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from scripts.draw_readme import __main__ as script
from scripts.draw_readme.accuracy import SHOWN, points, read_rows
from scripts.group_table import TASKS, accuracies, sizes_of, table

ROOT = Path(__file__).resolve().parents[1]


def test_what_is_plotted_stands_in_the_results() -> None:
    text, rows = (ROOT / "docs" / "results.md").read_text(encoding="utf-8"), read_rows()
    assert "\n".join(table(accuracies(rows, "test"), TASKS, sizes_of(rows))) in text
    found = points(rows)
    assert set(SHOWN) == set(found)
    for method, point in found.items():
        deviation = f" ± {point.deviation:.1f}" if point.seeds > 1 else ""
        shown = rf"\| {point.seeds} \| 14 \| \**{point.accuracy:.1f}{deviation}\** \|"
        assert re.search(rf"^\| {method} \|.* {shown}", text, re.MULTILINE), method


def test_pictures_for_light_and_dark_pages_are_the_same_each_time(tmp_path: Path) -> None:
    script.main(tmp_path / "a")
    script.main(tmp_path / "b")
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {path.name for path in (ROOT / "docs" / "assets").glob("*.svg")}
    for name in names:
        content = (tmp_path / "a" / name).read_bytes()
        assert content == (tmp_path / "b" / name).read_bytes()
        assert ElementTree.fromstring(content).tag.endswith("svg")
