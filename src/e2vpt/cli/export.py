"""The command that makes an adapted model a file of its own: export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from e2vpt.cli.options import AdapterArgument, Backbone, Weights
from e2vpt.errors import ConfigError
from e2vpt.export.bundle import export_bundle
from e2vpt.export.checked import BATCHES, ExportFormat, check_target
from e2vpt.export.task import export_task
from e2vpt.runs.task_model import load


def export_command(
    adapter: AdapterArgument,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write.")],
    form: Annotated[ExportFormat | None, typer.Option("--format", help="What runs the file.")] = None,
    as_bundle: Annotated[
        bool,
        typer.Option(
            "--bundle", help="Write adapter and backbone as one file for e2vpt without a connection."
        ),
    ] = False,
    backbone: Backbone = None,
    weights: Weights = None,
    with_preprocessing: Annotated[
        bool,
        typer.Option(
            "--with-preprocessing", help="Take uint8 pixels of the model's size, and normalise them."
        ),
    ] = False,
) -> None:
    """Write an adapted model to a file that works alone, and check what it computes."""
    if as_bundle == (form is not None):
        raise ConfigError("Choose one: --format onnx, --format torch-export, or --bundle.")
    if as_bundle and with_preprocessing:
        raise ConfigError("--with-preprocessing has no effect with --bundle, which holds the preprocessing.")
    if form is None:
        made = export_bundle(adapter, out, backbone, weights=weights)
    else:
        check_target(out, form)
        task = load(adapter, backbone, weights=weights, device="cpu")
        made = export_task(task, out, form, with_preprocessing=with_preprocessing)
    tried = " and ".join(map(str, BATCHES))
    print(f"{made.path}: {made.bytes} bytes; logits of {tried} images within {made.difference:.1e}")
