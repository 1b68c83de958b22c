"""Runs side by side: what differs between them, and nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from support.answers_for_tests import answers
from support.insight_for_tests import task_model

from e2vpt.insight.reports.comparing import drawn_comparison
from e2vpt.insight.reports.report import RunReport, adapter_report


@pytest.fixture
def report(tmp_path: Path) -> RunReport:
    model = task_model(tmp_path, "e2vpt")
    count = len(model.info.classes)
    rows = [[0.9] + [0.1 / (count - 1)] * (count - 1)] * 4
    return adapter_report(model, answers(rows, (0, 0, 0, 1)))


def test_figures_of_each_and_accuracy_of_every_class(report: RunReport) -> None:
    better = dataclasses.replace(report, measured=(dataclasses.replace(report.measured[0], split="val"),))
    text = drawn_comparison([report, better])
    assert text.count("75.0%") >= 2 and "4 test images" in text and "4 validation images" in text
    assert "100.0%" in text, "of the first class"
    assert f"{report.info.bytes:,}" in text


def test_other_classes_are_not_compared_class_by_class(report: RunReport) -> None:
    names = tuple(f"another {name}" for name in report.info.classes)
    other = dataclasses.replace(report, info=dataclasses.replace(report.info, classes=names))
    part = 'id="classes"'
    assert part in drawn_comparison([report, report])
    assert part not in drawn_comparison([report, other])


def test_a_run_that_nobody_measured(report: RunReport) -> None:
    text = drawn_comparison([report, dataclasses.replace(report, measured=())])
    assert "4 test images" in text
