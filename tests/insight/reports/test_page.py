"""The page has the parts for which there is something to show, and no others."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from e2vpt.data import load_task
from e2vpt.insight.reports.page import drawn_report
from e2vpt.insight.reports.record import read_record
from e2vpt.insight.reports.report import RunReport, run_report


@pytest.fixture(scope="module")
def report(run: Path) -> RunReport:
    return run_report(read_record(run), load_task(run.parent / "data"))


def sections(report: RunReport) -> set[str]:
    return set(re.findall(r'<section id="(\w+)"', drawn_report(report)))


def test_parts_follow_what_the_report_holds(report: RunReport) -> None:
    answers, history = {"classes", "pictures", "calibration"}, {"curves", "pruning"}
    assert sections(report) == {"run", "details"} | answers | history
    assert sections(dataclasses.replace(report, record=None)) == {"run", "details"} | answers
    assert sections(dataclasses.replace(report, measured=())) == {"run", "details"} | history


def test_every_link_has_its_section(report: RunReport) -> None:
    for one in (report, dataclasses.replace(report, record=None)):
        links = set(re.findall(r'href="#(\w+)"', drawn_report(one)))
        assert links == sections(one)


def test_headline_figures_are_those_measured(report: RunReport) -> None:
    tiles = re.findall(r'<dd class="value">([^<]+)</dd>\s*<dd class="of">([^<]+)</dd>', drawn_report(report))
    for measured in report.measured:
        metrics = measured.metrics
        assert (f"{metrics.accuracy:.1%}", f"of {metrics.num_images:,} images") in tiles
    assert any(of == f"{report.info.bytes:,} bytes" for _, of in tiles)
    assert (f"{report.info.num_tuned:,}", f"and {report.info.num_head:,} in the head") in tiles


def test_what_it_was_trained_with_is_said(report: RunReport) -> None:
    assert report.record is not None
    train = dataclasses.replace(report.record.config.train, precision="bf16")
    config = dataclasses.replace(report.record.config, train=train)
    record = dataclasses.replace(report.record, config=config, version="1.2<b>")
    text = drawn_report(dataclasses.replace(report, record=record))
    assert "trained in bf16" in text and "trained in bf16" not in drawn_report(report)
    assert "1.2&lt;b&gt;" in text and "1.2<b>" not in text
    assert "2 (with all prompts; epoch" in text
    assert "training and validation images" not in text
    both = dataclasses.replace(config, data=dataclasses.replace(config.data, train_on="train+val"))
    record = dataclasses.replace(record, config=both)
    assert "training and validation images" in drawn_report(dataclasses.replace(report, record=record))
