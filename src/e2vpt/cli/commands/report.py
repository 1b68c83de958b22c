"""The command that makes reports: report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from e2vpt.cli.options import DATA_HELP
from e2vpt.cli.output import print_measured, print_temperature
from e2vpt.errors import ConfigError, visible
from e2vpt.files.paths import check_file_place
from e2vpt.runs.progress import image_check


def report_command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders of `e2vpt train`.")],
    data: Annotated[
        str | None, typer.Option(help=f"The images, where they are not where they were. {DATA_HELP}")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="One run: the report, RUN/report.html when not given. Several: the comparison."),
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Store the temperature fitted on validation images in the adapter."),
    ] = False,
) -> None:
    """Make the HTML report of a run; of several runs, also a page that compares them."""
    from e2vpt.insight.reports.writing import REPORT, write_html_report, write_report_comparison

    several = len(runs) > 1
    if len({run.resolve() for run in runs}) < len(runs):
        raise ConfigError("A run is named twice.")
    if out is not None:
        check_file_place(out)
    reports = []
    for run in runs:
        with image_check(f"Evaluating {visible(str(run))}") as update:
            place = run / REPORT if several or out is None else out
            reports.append(write_html_report(run, data, out=place, calibrate=calibrate, on_images=update))
        if several:
            print(f"{'run':18} {visible(str(run))}")
        print_measured(reports[-1].measured, reports[-1].info.classes)
        if calibrate:
            print_temperature(reports[-1])
        print(f"{'report':18} {visible(str(place))}")
    if several:
        page = out or Path("comparison.html")
        write_report_comparison(reports, page)
        print(f"{'comparison':18} {visible(str(page))}")
