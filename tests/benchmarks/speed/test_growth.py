"""Lines through curves: known slopes come out, every axis is measured, and the report says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from e2vpt.benchmarks.speed.contestants import Case
from e2vpt.benchmarks.speed.growth import fits, growth_configs, measure_growth, write_growth

pytestmark = pytest.mark.usefixtures("one_thread")


def row(method: str, mode: str, **values: Any) -> dict[str, Any]:
    return {"method": method, "mode": mode, "seconds": 1.0, "peak_mib": 1.0, "num_visual": 10} | values


def test_slopes_are_those_of_the_curves() -> None:
    """Milliseconds a prompt, a block, 1,000 pixels; MiB an image."""
    found = {
        "prompts": [row("e2vpt", "step", num_visual=p, seconds=0.1 + 0.002 * p) for p in (1, 10, 100)],
        "batch": [row("e2vpt", "step", batch_size=b, peak_mib=5 + 3 * b) for b in (1, 8)],
        "size": [row("plain", "inference", image_size=s, seconds=s * s * 1e-6) for s in (224, 512)],
        "blocks": [row("plain", "inference", depth=d, seconds=0.05 * d) for d in (2, 4)],
    }
    slopes = {(f.axis, f.quantity): f for f in fits(found)}
    assert slopes["prompts", "seconds"].slope == pytest.approx(2.0)
    assert slopes["prompts", "seconds"].intercept == pytest.approx(100.0)
    assert slopes["batch", "peak_mib"].slope == pytest.approx(3.0)
    assert slopes["size", "seconds"].slope == pytest.approx(1.0)
    assert slopes["blocks", "seconds"].slope == pytest.approx(50.0)
    assert all(f.r2 == pytest.approx(1.0) for f in slopes.values())


def test_a_curve_that_is_not_straight_says_so() -> None:
    bent = [row("e2vpt", "step", num_visual=p, seconds=s) for p, s in ((0, 1.0), (1, 0.0), (2, 1.0))]
    fit = next(f for f in fits({"prompts": bent}) if f.quantity == "seconds")
    assert fit.r2 == pytest.approx(0.0) and fit.slope == pytest.approx(0.0)
    assert fits({"prompts": bent[:1]}) == []


def test_every_axis_is_measured_and_shown(tmp_path: Path) -> None:
    configs = growth_configs(
        Case(backbone="test_vit", batch_size=2, num_classes=5),
        num_visual=(1, 20),
        batch_sizes=(2, 4),
        image_sizes=(160, 224),
        depths=(1, 2),
        rounds=1,
    )
    found = measure_growth(configs, tmp_path)
    assert {axis: len(rows) for axis, rows in found.items()} == {
        "prompts": 6,  # plain and two numbers of prompts, in two modes
        "batch": 8,
        "size": 8,
        "blocks": 8,
    }
    again = measure_growth(configs, tmp_path, on_call=lambda *_: pytest.fail("measured twice"))
    assert again == found
    text = write_growth(tmp_path, found, {"command": "e2vpt bench growth"})
    assert (tmp_path / "growth.md").read_text() == text and "* command: e2vpt bench growth" in text
    # Twelve blocks' memory and FLOPs grow with the axis, whatever the clock says.
    slopes = {(f.axis, f.method, f.mode): f.slope for f in fits(found) if f.quantity == "peak_mib"}
    assert len(slopes) == 4 * 3 - 1 and all(slope > 0 for key, slope in slopes.items() if key[2] == "step")
    assert (tmp_path / "growth.csv").read_text().count("\n") == 31
    with Image.open(tmp_path / "growth.png") as image:
        assert image.width > 1000
