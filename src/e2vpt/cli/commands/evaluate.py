"""The command that measures an adapter: eval."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from e2vpt.cli.options import (
    AdapterArgument,
    AsCells,
    AsJson,
    Backbone,
    DataArgument,
    Separator,
    SkipUnreadable,
    Weights,
    separator_meant,
)
from e2vpt.config.images import WhichSplit
from e2vpt.errors import ConfigError, visible
from e2vpt.files.paths import check_file_place
from e2vpt.runs.progress import image_check, left_out_text, percent, say


def eval_command(
    adapter: AdapterArgument,
    source: DataArgument,
    backbone: Backbone = None,
    weights: Weights = None,
    split: Annotated[WhichSplit, typer.Option(help="Which images, where the data have splits.")] = "test",
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 64,
    skip_unreadable: SkipUnreadable = False,
    as_json: AsJson = False,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report to this file.")] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Write a row for each image to this file: truth, answer, score.")
    ] = None,
    bom: AsCells = False,
    separator: Separator = ",",
) -> None:
    """Measure an adapter's accuracy on labelled images; without splits in the data, on all of them."""
    between = separator_meant(separator, bom, wanted=csv is not None, how="--csv FILE")
    from e2vpt.runs.folders.finding import adapter_path

    read = [adapter_path(adapter)] if report or csv else []
    for path in (report, csv):
        if path is not None:
            check_file_place(path, read)
    from e2vpt.insight.reports.measured import measure_images
    from e2vpt.insight.reports.tables import write_answers
    from e2vpt.insight.reports.writing import write_adapter_report
    from e2vpt.runs.models.load import load
    from e2vpt.runs.models.task_model import evaluation

    model = load(adapter, backbone, weights=weights)
    if (report or csv) and len(model.info.classes) < 2:
        raise ConfigError(f"{adapter} has one class: nothing to tell it from, so no --report and no --csv.")
    with image_check("Evaluating") as update:
        found = model.labelled(
            source, split=split, skip_unreadable=skip_unreadable, on_images=update, on_note=say
        )
        measured = measure_images(model, found.images, found.which, batch_size=batch_size, on_images=update)
    metrics = evaluation(measured.metrics, found)
    if metrics.left_out:
        say(left_out_text(metrics.left_out))
    if csv is not None:
        write_answers(csv, measured, model.info.classes, separator=between, for_spreadsheets=bom)
    if report is not None:
        write_adapter_report(model, measured, report)
    if as_json:
        print(json.dumps(dataclasses.asdict(metrics)))
        return
    print(f"accuracy {percent(metrics.accuracy)} on {metrics.num_images} images ({metrics.split})")
    print(f"mean accuracy over classes {percent(metrics.mean_class_accuracy)}, loss {metrics.loss:.3f}")
    for path in (csv, report):
        if path is not None:
            print(visible(str(path)))
