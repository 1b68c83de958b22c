"""scripts/draw_readme.py: its points are the figures of docs/results.md, and its files are well-formed."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("draw_readme", ROOT / "scripts" / "draw_readme.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["draw_readme"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["draw_readme"]


def test_what_is_plotted_stands_in_the_results(script: ModuleType) -> None:
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\S+) \| [\d,]+ \| \*\*([\d.]+) ± ([\d.]+)\*\*", text, re.MULTILINE)
    written = {(method, mean, deviation) for method, mean, deviation in rows}
    plotted = {name: script.points(script.RESULTS)[name] for name in script.SHOWN}
    plotted["bias"], both = script.points(script.LONGER)["bias"], plotted["bias"]
    for method, point in [*plotted.items(), ("bias", both)]:
        assert (method, f"{point.accuracy:.2f}", f"{point.deviation:.2f}") in written


def test_pictures_for_light_and_dark_pages_are_the_same_each_time(script: ModuleType, tmp_path: Path) -> None:
    script.main(tmp_path / "a")
    script.main(tmp_path / "b")
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {path.name for path in (ROOT / "docs" / "assets").glob("*.svg")}
    for name in names:
        content = (tmp_path / "a" / name).read_bytes()
        assert content == (tmp_path / "b" / name).read_bytes()
        assert ElementTree.fromstring(content).tag.endswith("svg")
