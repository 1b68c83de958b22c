"""Reports as files: of a run, of several side by side, of an adapter on any labelled images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path

from e2vpt.data import Task, load_task
from e2vpt.errors import RunError
from e2vpt.files.atomic import write_atomic
from e2vpt.insight.reports.calibration import store_temperature
from e2vpt.insight.reports.comparing import drawn_comparison
from e2vpt.insight.reports.measured import Measured
from e2vpt.insight.reports.page import drawn_report
from e2vpt.insight.reports.record import RunRecord, read_record
from e2vpt.insight.reports.report import RunReport, adapter_report, calibrated, run_report
from e2vpt.runs.cards.card import write_card
from e2vpt.runs.folders.figures import save_figures
from e2vpt.runs.folders.folder import ADAPTER
from e2vpt.runs.folders.identity import changed_images, image_rows
from e2vpt.runs.models.task_model import TaskModel

REPORT = "report.html"


def write_html_report(
    run: str | PathLike[str],
    source: str | PathLike[str] | None = None,
    *,
    task: Task | None = None,
    out: str | PathLike[str] | None = None,
    calibrate: bool = False,
    on_images: Callable[[int, int], None] | None = None,
) -> RunReport:
    """Evaluate a finished run on its test and validation images, and write RUN/report.html (or `out`).

    The figures go to RUN/figures.json too, and into the model card unless somebody has edited it.

    Args:
        run: a run folder.
        source: its images, where they are not where they were.
        task: the same, read already.
        calibrate: store the temperature fitted on the validation images in the adapter, where one fits
            (`calibration.store_temperature`); the report is then of the calibrated adapter.
        on_images: told (done, total).

    Raises:
        RunError: no finished run there, its images are missing or others than it had, or the report cannot be
            written.
    """
    folder = Path(run)
    record = read_record(folder)
    task = task or _images_of(record, source)
    report = run_report(record, task, on_images=on_images)
    if calibrate and report.temperature is not None:
        store_temperature(folder / ADAPTER, report.temperature)
        report = calibrated(report)
    save_figures(folder, {m.split: m.metrics for m in report.measured})
    write_card(folder)
    write_atomic(folder / REPORT if out is None else Path(out), drawn_report(report).encode())
    return report


def write_adapter_report(model: TaskModel, measured: Measured, out: Path) -> None:
    """Write the report of an adapter on images that need not be those of its run."""
    write_atomic(out, drawn_report(adapter_report(model, measured)).encode())


def write_report_comparison(reports: Sequence[RunReport], out: Path) -> None:
    """Write a page that sets runs side by side."""
    write_atomic(out, drawn_comparison(reports).encode())


def _images_of(record: RunRecord, source: str | PathLike[str] | None) -> Task:
    """The images of a run, held to be the very ones."""
    where = source or record.config.source
    if where is None:
        raise RunError(f"{record.folder} does not say where its images are; name them with --data.")
    config = record.config.data
    try:
        task = load_task(where, config, verify=config.skip_unreadable)
    except ValueError as error:
        raise RunError(f"The images of {record.folder}: {error} Or name them with --data.") from error
    changes = changed_images(record.images, image_rows(task))
    if record.images and changes:
        raise RunError(
            f"{record.folder} was made with other {changes}. Restore them. For a report on other images use "
            f"e2vpt eval {record.folder} DATA --report FILE.html."
        )
    return task
