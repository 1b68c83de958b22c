"""Several runs on one page: their figures side by side, the settings in which they differ, their classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from e2vpt.errors import visible
from e2vpt.insight.documents import filled
from e2vpt.insight.reports.answers import split_words
from e2vpt.insight.reports.calibration import calibration_error, reliability
from e2vpt.insight.reports.mistakes import confusion
from e2vpt.insight.reports.record import settings_of
from e2vpt.insight.reports.report import RunReport

_WITHOUT_MEANING = {"source", "workers"}


def drawn_comparison(reports: Sequence[RunReport]) -> str:
    """The HTML of a page that compares runs."""
    return filled(
        "compare.html",
        rows=[_row(report) for report in reports],
        names=[visible(_name(report)) for report in reports],
        settings=_different(reports),
        classes=_by_class(reports),
        made=reports[0].made,
    )


def _name(report: RunReport) -> str:
    return str(report.record.folder if report.record else report.adapter)


def _row(report: RunReport) -> dict[str, Any]:
    measured = report.measured[0] if report.measured else None
    info = report.info
    return {
        "name": visible(_name(report)),
        "method": info.method,
        "backbone": info.backbone,
        "images": split_words(measured.split, len(measured.images)) if measured else "-",
        "accuracy": f"{measured.metrics.accuracy:.1%}" if measured else "-",
        "mean": f"{measured.metrics.mean_class_accuracy:.1%}" if measured else "-",
        "ece": f"{calibration_error(reliability(measured.probabilities, measured.labels)):.1%}"
        if measured
        else "-",
        "tuned": f"{info.num_tuned:,}",
        "head": f"{info.num_head:,}",
        "bytes": f"{info.bytes:,}",
        "kept": f"{info.visual_kept:.0%}",
    }


def _different(reports: Sequence[RunReport]) -> list[tuple[str, list[str]]]:
    """Settings that are not the same in all runs."""
    flat = [
        {key: value for _, values in settings_of(r.record) for key, value in values.items()}
        if r.record
        else {}
        for r in reports
    ]
    names = list(dict.fromkeys(name for values in flat for name in values if name not in _WITHOUT_MEANING))
    return [
        (name, [visible(str(values.get(name, "-"))) for values in flat])
        for name in names
        if len({str(values.get(name, "-")) for values in flat}) > 1
    ]


def _by_class(reports: Sequence[RunReport]) -> list[tuple[str, list[str]]]:
    """Accuracy of every class in every run; nothing where the runs have other classes."""
    classes = reports[0].info.classes
    if any(r.info.classes != classes or not r.measured for r in reports):
        return []
    tables = [confusion(r.measured[0]) for r in reports]
    columns = [(table.diagonal() / table.sum(1)).tolist() for table in tables]
    return [
        (visible(name), ["-" if c[i] != c[i] else f"{c[i]:.1%}" for c in columns])
        for i, name in enumerate(classes)
    ]
