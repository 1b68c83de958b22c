"""Reports of a real run, in a real browser: what they show, and that names in them are harmless."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path

import pytest
from support.browser_for_tests import opened_page
from support.reports_for_tests import HOSTILE

import e2vpt
from e2vpt.errors import RunError
from e2vpt.insight.reports.writing import write_html_report, write_report_comparison
from e2vpt.runs.folders.figures import read_figures


def test_its_figures_are_those_of_eval(run: Path) -> None:
    report = write_html_report(run)
    model = e2vpt.load(run)
    for split, measured in zip(("test", "val"), report.measured, strict=True):
        found = model.evaluate(run.parent / "data", split=split)  # type: ignore[arg-type]
        assert measured.split == split and measured.metrics.accuracy == found.accuracy
        assert measured.metrics.loss == pytest.approx(found.loss, rel=1e-6)
    assert report.record is not None
    assert [t.name for t in report.record.trainings] == ["all prompts", "50% of tokens, 50% of segments"]
    assert all(row["epoch"] == i for t in report.record.trainings for i, row in enumerate(t.rows, 1))
    assert report.record.begun and report.record.version == e2vpt.__version__


def test_names_are_shown_and_never_markup(run: Path) -> None:
    text = (run / "report.html").read_text()
    assert html.escape(HOSTILE) in text and HOSTILE not in text
    assert "<script" not in text and not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)
    assert not re.search(r"<[a-z]+[^>]*\son\w+=", text.replace(html.escape(HOSTILE), ""))


@pytest.mark.parametrize(("width", "theme"), [(1200, "light"), (1200, "dark"), (375, "light"), (375, "dark")])
def test_a_browser_shows_every_part(run: Path, width: int, theme: str) -> None:
    with opened_page(run / "report.html", width, theme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("window.hacked") is None
        assert HOSTILE in page.locator("#classes tbody th").all_inner_texts()
        links = page.locator("nav a")
        for index in range(links.count()):
            links.nth(index).click()
            target = page.evaluate("location.hash")
            assert page.locator(f"{target} > h2").count() == 1
        for summary in page.locator("summary").all():
            summary.click()
        assert page.locator("details:not([open])").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.locator("img").evaluate_all("all => all.every(i => i.alt && i.naturalWidth > 0)")
        assert page.locator("svg.chart").count() == 7 and page.locator("svg.heat").count() == 1
        assert page.locator("tr.chosen").count() == 1
        text = page.inner_text("main")
        for part in ("0.01", "num_visual", "bars/00.png", "torch", "the temperature", "block 1"):
            assert part.lower() in text.lower(), part


def test_runs_are_compared(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["train"]["seed"] = 7
    (other / "config.json").write_text(json.dumps(config))
    reports = [write_html_report(folder) for folder in (run, other)]
    write_report_comparison(reports, tmp_path / "both.html")
    with opened_page(tmp_path / "both.html") as page:
        assert page.locator("#figures tbody tr").count() == 2
        assert page.locator("#settings tbody tr").all_inner_texts() == ["seed\t0\t7"]
        assert HOSTILE in page.locator("#classes tbody th").all_inner_texts()
        assert page.evaluate("window.hacked") is None


def test_other_images_are_refused(run: Path, tmp_path: Path) -> None:
    data = shutil.copytree(run.parent / "data", tmp_path / "data")
    next((data / "test/bars").iterdir()).unlink()
    before = (run / "report.html").read_bytes()
    with pytest.raises(RunError, match=r"other images: .*e2vpt eval .* DATA --report"):
        write_html_report(run, data)
    with pytest.raises(RunError, match="name them with --data"):
        write_html_report(run, tmp_path / "nowhere")
    with pytest.raises(RunError, match="not a finished run"):
        write_html_report(tmp_path)
    assert (run / "report.html").read_bytes() == before


def test_a_temperature_is_stored_where_it_is_asked_for(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    first = write_html_report(copy)
    assert "temperature" not in first.info.metrics and first.temperature is not None
    second = write_html_report(copy, calibrate=True)
    assert second.info.metrics["temperature"] == pytest.approx(first.temperature)
    assert second.temperature == pytest.approx(1.0, abs=1e-3)
    assert second.measured[0].metrics.accuracy == first.measured[0].metrics.accuracy
    again = write_html_report(copy)
    for then, now in zip(second.measured, again.measured, strict=True):
        assert now.metrics.loss == pytest.approx(then.metrics.loss, rel=1e-5)


def test_where_no_temperature_fits_none_is_stored(run: Path, tmp_path: Path) -> None:
    data, alone = shutil.copytree(run.parent / "data", tmp_path / "data"), tmp_path / "alone"
    shutil.rmtree(data / "val")
    e2vpt.train(data, "demo", alone, verbose=False, epochs=1, prune=False, val_fraction=0.0)
    before = (alone / "adapter.safetensors").read_bytes()
    report = write_html_report(alone, calibrate=True)
    assert report.temperature is None and "temperature" not in report.info.metrics
    assert (alone / "adapter.safetensors").read_bytes() == before
    assert (alone / "report.html").exists()


def test_figures_reach_the_card(run: Path) -> None:
    report = write_html_report(run)
    (test, val) = (m.metrics for m in report.measured)
    assert read_figures(run) == {"test": test, "val": val}
    assert f"| test accuracy | {test.accuracy:.1%} of 15 images |" in (run / "README.md").read_text()
