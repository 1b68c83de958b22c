"""The command that makes adapted models files that work alone: export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from e2vpt.cli.options import Backbone, Weights
from e2vpt.errors import ConfigError, visible
from e2vpt.export.formats import ExportFormat

if TYPE_CHECKING:
    from e2vpt.export.checked import Exported
    from e2vpt.multitask.tasks import MultiTask


def export_command(
    adapters: Annotated[
        list[Path],
        typer.Argument(
            metavar="ADAPTER_OR_RUN...",
            help="Adapter file, or run folder; several for one file of many tasks.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write.")],
    form: Annotated[
        ExportFormat | None,
        typer.Option(
            "--format",
            help="onnx for onnxruntime, torch-export for torch.export.load; give this or --bundle.",
        ),
    ] = None,
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
    if len(adapters) > 1 and (as_bundle or with_preprocessing):
        flag = "--bundle" if as_bundle else "--with-preprocessing"
        raise ConfigError(f"{flag} is for one adapter; {len(adapters)} were given.")
    from e2vpt.export.bundle import export_bundle
    from e2vpt.export.checked import BATCHES, check_target
    from e2vpt.export.task import export_task
    from e2vpt.export.tasks import export_tasks, vectors_path
    from e2vpt.files.paths import check_file_place
    from e2vpt.runs.folders.finding import adapter_path
    from e2vpt.runs.models.load import load

    made: Exported
    if form is None:
        made = export_bundle(adapters[0], out, backbone, weights=weights)
    else:
        paths = [adapter_path(adapter) for adapter in adapters]
        check_target(out, form, paths)
        if len(adapters) == 1:
            task = load(adapters[0], backbone, weights=weights, device="cpu")
            made = export_task(task, out, form, with_preprocessing=with_preprocessing)
        else:
            check_file_place(vectors_path(out), paths)
            made = many = export_tasks(_loaded(paths, backbone, weights), out, form)
            print(f"{many.vectors}: a vector for each of {len(adapters)} tasks")
    tried = " and ".join(map(str, BATCHES))
    print(f"{made.path}: {made.bytes} bytes; logits of {tried} images within {made.difference:.1e}")


def _loaded(paths: list[Path], backbone: str | None, weights: Path | None) -> MultiTask:
    """Tasks called as their files, or run folders, are."""
    from e2vpt.multitask.tasks import MultiTask
    from e2vpt.runs.folders.finding import task_name
    from e2vpt.runs.models.load import plain_backbone

    names = [task_name(path) for path in paths]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"Two adapters are called {visible(name)}; tasks need different names.")
    tasks = MultiTask(plain_backbone(paths[0], backbone, weights=weights))
    for name, path in zip(names, paths, strict=True):
        tasks.load(name, path)
    return tasks
