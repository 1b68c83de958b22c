"""The commands, one function each. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import dataclasses
import json
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from rich.markup import escape
from torch import nn

from e2vpt.adapters.files import load_adapter, read_adapter
from e2vpt.adapters.header import AdapterInfo
from e2vpt.cli.bench import bench_app
from e2vpt.cli.compare import compare_command
from e2vpt.cli.options import AdapterArgument, AsJson, Backbone, DataArgument, Weights, load, say
from e2vpt.cli.output import describe, plain, print_csv, print_json, print_text
from e2vpt.cli.suite import fgvc, vtab
from e2vpt.cli.train import prune, search, train
from e2vpt.data import Split, Task
from e2vpt.data.loaders import make_loader
from e2vpt.errors import ConfigError, DataError, E2VPTError
from e2vpt.runs.folder import adapter_path, saved_data_config
from e2vpt.runs.predict import find_images, predict_images
from e2vpt.runs.progress import console, image_check
from e2vpt.training.evaluate import evaluate

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Adapt one frozen vision transformer to many image tasks with mixed visual prompts.",
)
for command in (train, prune, search):
    app.command()(command)
app.command("compare")(compare_command)
bench_app.command("vtab")(vtab)
bench_app.command("fgvc")(fgvc)
app.add_typer(bench_app, name="bench")


@app.command("eval")
def evaluate_command(
    adapter: AdapterArgument,
    source: DataArgument,
    backbone: Backbone = None,
    weights: Weights = None,
    split: Annotated[
        Literal["train", "val", "test", "all"], typer.Option(help="Which images to evaluate on.")
    ] = "test",
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 64,
    as_json: AsJson = False,
) -> None:
    """Measure an adapter's accuracy on labelled images."""
    model, info = load_adapter(adapter_path(adapter), backbone, weights=weights)
    images = _matching(*_split(load(source, saved_data_config(adapter)), split), info)
    loader = make_loader(images, info.preprocessing, batch_size=batch_size)
    with image_check("Evaluating") as update:
        done = 0

        def count(number: int) -> None:
            nonlocal done
            done += number
            update(done, len(images))

        metrics = evaluate(_on_best_device(model), loader, on_batch=count)
    result = {"split": split, **dataclasses.asdict(metrics)}
    if as_json:
        print(json.dumps(result))
    else:
        print(f"accuracy {metrics.accuracy:.2%} on {metrics.num_images} images ({split})")
        print(f"mean accuracy over classes {metrics.mean_class_accuracy:.2%}, loss {metrics.loss:.3f}")


@app.command()
def predict(
    adapter: AdapterArgument,
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILES...", help="Images, folders of images, or - for a list on stdin."),
    ],
    backbone: Backbone = None,
    weights: Weights = None,
    topk: Annotated[int, typer.Option(min=1, help="Classes to name for each image.")] = 1,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 32,
    as_json: AsJson = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print CSV: file, class, score for each rank.")
    ] = False,
) -> None:
    """Name the classes of images. Exits with 1 if an image could not be read; the others are still done."""
    if as_json and as_csv:
        raise ConfigError("--json and --csv contradict each other; choose one.")
    images = find_images(_expand_stdin(files))
    model, info = load_adapter(adapter_path(adapter), backbone, weights=weights)
    found = predict_images(
        _on_best_device(model),
        images,
        classes=info.classes,
        preprocessing=info.preprocessing,
        topk=topk,
        batch_size=batch_size,
    )
    failed = (print_csv if as_csv else print_json if as_json else print_text)(found)
    if failed:
        say(f"{failed} of {len(images)} images could not be read.")
        raise typer.Exit(1)


@app.command()
def info(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER_OR_RUN", help="Adapter file, or run folder.")],
    as_json: AsJson = False,
) -> None:
    """Show what an adapter file holds; no backbone is needed."""
    found = read_adapter(adapter_path(adapter))
    print(json.dumps(plain(found)) if as_json else describe(found))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the images and both runs.")] = Path("runs/demo"),
) -> None:
    """Compare a linear head with E²VPT on images drawn here: offline, in about a minute."""
    from e2vpt.cli.demo import run_demo

    run_demo(out)


def main() -> None:
    """Entry point: errors of ours become one message on stderr and exit code 1."""
    # Library warnings are for developers; what a user must know is said by our own messages.
    warnings.simplefilter("ignore")
    try:
        app()
    except E2VPTError as error:
        console.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)


def _split(task: Task, which: str) -> tuple[Task, Split]:
    """The images of one split, or of all of them."""
    splits = task.splits()
    if which == "all":
        images = tuple(image for split in splits.values() for image in split.images)
        return task, Split(images=images, labels=tuple(y for split in splits.values() for y in split.labels))
    if which not in splits:
        raise DataError(
            f"{task.name} has no {which} images, only {', '.join(splits)}. Choose another --split."
        )
    return task, splits[which]


def _matching(task: Task, split: Split, info: AdapterInfo) -> Split:
    """The split with its labels in the order of the adapter's classes."""
    unknown = sorted(set(task.classes) - set(info.classes))
    if unknown:
        raise DataError(
            f"{task.name} has classes the adapter does not know: {', '.join(unknown[:10])}. "
            f"It knows {', '.join(info.classes[:10])}{', ...' if len(info.classes) > 10 else ''}."
        )
    number = {name: index for index, name in enumerate(info.classes)}
    return Split(images=split.images, labels=tuple(number[task.classes[y]] for y in split.labels))


def _on_best_device(model: nn.Module) -> nn.Module:
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def _expand_stdin(files: Iterable[str]) -> list[str]:
    """`-` stands for the lines of stdin, each the path of an image or a folder."""
    expanded: list[str] = []
    for file in files:
        expanded += [line.rstrip("\n") for line in sys.stdin if line.strip()] if file == "-" else [file]
    if not expanded:
        raise DataError("No images: stdin was empty. Give one path a line.")
    return expanded
