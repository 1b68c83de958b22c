"""The commands that look at unlabelled images: predict, embed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from e2vpt.cli.options import (
    AdapterArgument,
    AsCells,
    AsJson,
    Backbone,
    Separator,
    SkipUnreadable,
    Weights,
    separator_meant,
)
from e2vpt.cli.output import print_csv, print_json, print_text
from e2vpt.errors import ConfigError, DataError, UnreadableImages, visible
from e2vpt.files.paths import check_file_place
from e2vpt.runs.progress import image_check, left_out_text, say

if TYPE_CHECKING:
    from e2vpt.runs.models.predict import Prediction

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
        bool, typer.Option("--csv", help="Print CSV: file, rank, class, score, error.")
    ] = False,
    bom: AsCells = False,
    separator: Separator = ",",
    skip_unreadable: SkipUnreadable = False,
) -> None:
    """Name the classes of images.

    Images that cannot be read are listed, the others are still done. The exit code then is 1, or 0 with
    --skip-unreadable.
    """
    if as_json and as_csv:
        raise ConfigError("--json and --csv contradict each other; choose one.")
    between = separator_meant(separator, bom, wanted=as_csv, how="--csv")
    from e2vpt.runs.models.load import load
    from e2vpt.runs.models.predict import find_images

    images = find_images(_expand_stdin(files))
    model = load(adapter, backbone, weights=weights)
    found = model.predictions(images, topk=topk, batch_size=batch_size)
    # On a terminal the lines themselves show how far it is.
    with nullcontext(_ignore) if sys.stdout.isatty() else image_check("Predicting") as update:
        counted = _counted(found, len(images), update)
        if as_csv:
            failed = print_csv(counted, separator=between, for_spreadsheets=bom)
        else:
            failed = (print_json if as_json else print_text)(counted)
    if failed:
        say(f"{failed} of {len(images)} images could not be read.")
        raise typer.Exit(0 if skip_unreadable and failed < len(images) else 1)


def embed_command(
    adapter: AdapterArgument,
    files: ImageArguments,
    out: Annotated[Path, typer.Option(help="Where to: a name that ends in .npy, .csv or .parquet.")],
    backbone: Backbone = None,
    weights: Weights = None,
    batch_size: BatchSize = 32,
    skip_unreadable: SkipUnreadable = False,
) -> None:
    """Write features of images: what the head of the adapted backbone sees, one row for each image."""
    if out.suffix not in (".npy", ".csv", ".parquet"):
        raise ConfigError(f"--out is {out}; expected a name that ends in .npy, .csv or .parquet.")
    check_file_place(out)
    from e2vpt.runs.models.embed import write_features
    from e2vpt.runs.models.load import load
    from e2vpt.runs.models.predict import find_images

    images = find_images(_expand_stdin(files))
    model = load(adapter, backbone, weights=weights)
    left_out: dict[str, str] = {}
    with image_check("Embedding") as update:
        rows = model.embed(
            images,
            batch_size=batch_size,
            on_images=update,
            left_out=left_out if skip_unreadable else None,
        )
    if images and not len(rows):
        raise UnreadableImages(left_out)
    if left_out:
        say(left_out_text(left_out))
    names = [image.name for image in images if image.name not in left_out]
    for path in write_features(out, names, rows):
        print(visible(str(path)))


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
