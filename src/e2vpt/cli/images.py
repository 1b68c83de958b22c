"""The commands that look at unlabelled images: predict, embed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from e2vpt.cli.options import AdapterArgument, AsJson, Backbone, Weights
from e2vpt.cli.output import print_csv, print_json, print_text
from e2vpt.errors import ConfigError, DataError
from e2vpt.runs.embed import write_features
from e2vpt.runs.predict import Prediction, find_images
from e2vpt.runs.progress import image_check, say
from e2vpt.runs.task_model import load

ImageArguments = Annotated[
    list[str],
    typer.Argument(metavar="FILES...", help="Images, folders of images, or - for a list on stdin."),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images at a time.")]


def predict_command(
    adapter: AdapterArgument,
    files: ImageArguments,
    backbone: Backbone = None,
    weights: Weights = None,
    topk: Annotated[int, typer.Option(min=1, help="Classes to name for each image.")] = 1,
    batch_size: BatchSize = 32,
    as_json: AsJson = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV: file, class, score for each rank.")
    ] = False,
    bom: Annotated[
        bool, typer.Option("--bom", help="With --csv: as spreadsheets take it, no cell read as a formula.")
    ] = False,
) -> None:
    """Name the classes of images. Exits with 1 if an image could not be read; the others are still done."""
    if as_json and as_csv:
        raise ConfigError("--json and --csv contradict each other; choose one.")
    if bom and not as_csv:
        raise ConfigError("--bom has no effect without --csv.")
    images = find_images(_expand_stdin(files))
    model = load(adapter, backbone, weights=weights)
    found = model.predictions(images, topk=topk, batch_size=batch_size)
    # On a terminal the lines themselves show how far it is.
    with nullcontext(_ignore) if sys.stdout.isatty() else image_check("Predicting") as update:
        counted = _counted(found, len(images), update)
        if as_csv:
            failed = print_csv(counted, for_spreadsheets=bom)
        else:
            failed = (print_json if as_json else print_text)(counted)
    if failed:
        say(f"{failed} of {len(images)} images could not be read.")
        raise typer.Exit(1)


def embed_command(
    adapter: AdapterArgument,
    files: ImageArguments,
    out: Annotated[Path, typer.Option(help="Where to: a name that ends in .npy, .csv or .parquet.")],
    backbone: Backbone = None,
    weights: Weights = None,
    batch_size: BatchSize = 32,
) -> None:
    """Write features of images: what the head of the adapted backbone sees, one row for each image."""
    if out.suffix not in (".npy", ".csv", ".parquet"):
        raise ConfigError(f"--out is {out}; expected a name that ends in .npy, .csv or .parquet.")
    images = find_images(_expand_stdin(files))
    model = load(adapter, backbone, weights=weights)
    with image_check("Embedding") as update:
        rows = model.embed(images, batch_size=batch_size, on_images=update)
    for path in write_features(out, [image.name for image in images], rows):
        print(path)


def _counted(
    found: Iterable[Prediction], total: int, update: Callable[[int, int], None]
) -> Iterator[Prediction]:
    for done, prediction in enumerate(found, 1):
        update(done, total)
        yield prediction


def _ignore(_done: int, _total: int) -> None:
    """Where no progress is shown."""


def _expand_stdin(files: Iterable[str]) -> list[str]:
    """`-` stands for the lines of stdin, each the path of an image or a folder."""
    expanded: list[str] = []
    for file in files:
        if file == "-":  # As bytes: file names need not be valid text.
            expanded += [os.fsdecode(line.rstrip(b"\r\n")) for line in sys.stdin.buffer if line.strip()]
        else:
            expanded.append(file)
    if not expanded:
        raise DataError("No images: stdin was empty. Give one path a line.")
    return expanded
