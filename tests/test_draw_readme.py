"""scripts/draw_readme: its points are the figures of docs/results.md, and its files are well-formed."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from scripts.draw_readme import __main__ as script
from scripts.draw_readme.accuracy import SHOWN, points, read_rows

ROOT = Path(__file__).resolve().parents[1]


def test_what_is_plotted_stands_in_the_results() -> None:
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    row = r"^\| (\S+) \| [\d,]+ \| \S+ \| (\d) \| \**([\d.]+)(?: ± ([\d.]+))?\** \|"
    written = {name: figures for name, *figures in re.findall(row, text, re.MULTILINE)}
    found = points(read_rows())
    assert set(SHOWN) == set(found) == set(written)
    for method, point in found.items():
        deviation = f"{point.deviation:.1f}" if point.seeds > 1 else ""
        assert written[method] == [str(point.seeds), f"{point.accuracy:.1f}", deviation], method


def test_pictures_for_light_and_dark_pages_are_the_same_each_time(tmp_path: Path) -> None:
    script.main(tmp_path / "a")
    script.main(tmp_path / "b")
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {path.name for path in (ROOT / "docs" / "assets").glob("*.svg")}
    for name in names:
        content = (tmp_path / "a" / name).read_bytes()
        assert content == (tmp_path / "b" / name).read_bytes()
        assert ElementTree.fromstring(content).tag.endswith("svg")
