"""The command that measures an adapter: eval."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated

import typer

from e2vpt.cli.options import AdapterArgument, AsJson, Backbone, DataArgument, SkipUnreadable, Weights
from e2vpt.runs.labelled import WhichSplit
from e2vpt.runs.progress import image_check, left_out_text, percent, say
from e2vpt.runs.task_model import load


def eval_command(
    adapter: AdapterArgument,
    source: DataArgument,
    backbone: Backbone = None,
    weights: Weights = None,
    split: Annotated[WhichSplit, typer.Option(help="Which images, where the data have splits.")] = "test",
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 64,
    skip_unreadable: SkipUnreadable = False,
    as_json: AsJson = False,
) -> None:
    """Measure an adapter's accuracy on labelled images; without splits in the data, on all of them."""
    model = load(adapter, backbone, weights=weights)
    with image_check("Evaluating") as update:
        metrics = model.evaluate(
            source,
            split=split,
            batch_size=batch_size,
            skip_unreadable=skip_unreadable,
            on_images=update,
            on_note=say,
        )
    if metrics.left_out:
        say(left_out_text(metrics.left_out))
    if as_json:
        print(json.dumps(dataclasses.asdict(metrics)))
    else:
        print(f"accuracy {percent(metrics.accuracy)} on {metrics.num_images} images ({metrics.split})")
        print(f"mean accuracy over classes {percent(metrics.mean_class_accuracy)}, loss {metrics.loss:.3f}")
