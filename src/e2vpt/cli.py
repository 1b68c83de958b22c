"""The commands, one function each. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import dataclasses
import json
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import torch
import typer
from rich.markup import escape
from torch import nn

from e2vpt.adapter import load_adapter, read_adapter
from e2vpt.backbones import PRESETS
from e2vpt.config import DataConfig, PromptConfig, PruneConfig, TrainConfig
from e2vpt.data import Split, Task, load_task
from e2vpt.data.loaders import make_loader
from e2vpt.errors import ConfigError, DataError, E2VPTError
from e2vpt.evaluate import evaluate
from e2vpt.flags import with_config_flags
from e2vpt.header import AdapterInfo
from e2vpt.output import describe, plain, print_csv, print_final, print_json, print_text, print_tried
from e2vpt.paper import train_by_the_paper
from e2vpt.predict import find_images, predict_images
from e2vpt.processes import leave_processes, process_rank
from e2vpt.progress import console, image_check, training
from e2vpt.pruned_files import Tried
from e2vpt.recipe import Reporting, train_and_prune
from e2vpt.run import train_run
from e2vpt.run_folder import ADAPTER, RunConfig, adapter_path, saved_data_config, saved_run_config

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Adapt one frozen vision transformer to many image tasks with mixed visual prompts.",
)

_PRESETS = ", ".join(sorted(PRESETS))
Weights = Annotated[Path | None, typer.Option(help="Local weights of the backbone instead of a download.")]
Backbone = Annotated[str | None, typer.Option(help="Backbone instead of the one the file names.")]
AdapterArgument = Annotated[
    Path, typer.Argument(metavar="ADAPTER_OR_RUN", help="Adapter file, or run folder.")
]
DataArgument = Annotated[
    str, typer.Argument(metavar="DATA", help="Folder of class folders, a .tar of it, a .csv, or hf:NAME.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@app.command()
@with_config_flags
def train(
    source: DataArgument,
    backbone: Annotated[str, typer.Option(help=f"A timm name, or a preset: {_PRESETS}.")],
    prompts: PromptConfig,
    data: DataConfig,
    train: TrainConfig,
    prune: PruneConfig,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/<data name> when not given.")] = None,
    weights: Weights = None,
    method: Annotated[
        Literal["e2vpt", "linear"], typer.Option(help="Prompts and head, or head alone.")
    ] = "e2vpt",
    resume: Annotated[bool, typer.Option(help="Go on with the run in --out.")] = False,
    no_prune: Annotated[
        bool, typer.Option("--no-prune", help="One training with all prompts, nothing pruned.")
    ] = False,
    protocol: Annotated[
        Literal["fast", "paper"],
        typer.Option(help="A few trainings, or all 126 of the paper's search (SGD, its grids)."),
    ] = "fast",
    adapter_precision: Annotated[
        Literal["fp32", "fp16"], typer.Option(help="Precision of the numbers in the adapter file.")
    ] = "fp32",
) -> None:
    """Train an adapter from labelled images: train, prune, rewind, train again, keep the best."""
    task = _load(source, data)
    out = out or Path("runs") / task.name
    config = RunConfig(
        backbone=backbone,
        weights=None if weights is None else str(weights),
        method=method,
        prompts=prompts,
        data=data,
        train=train,
        adapter_precision=adapter_precision,
        source=_absolute(source),
    )
    _say(_summary(task))
    has_visual = method == "e2vpt" and prompts.num_visual != 0
    if protocol == "paper":
        _train_by_the_paper(task, config, prune, out, resume=resume)
    else:
        _train(task, config, None if no_prune or not has_visual else prune, out, resume=resume)


@app.command("prune")
@with_config_flags
def prune_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of `e2vpt train --no-prune`.")],
    prune: PruneConfig,
    source: Annotated[
        str | None, typer.Argument(metavar="[DATA]", help="The images, where they are not where they were.")
    ] = None,
) -> None:
    """Prune the prompts of a finished run, rewind and train again, keep the best; the first one stays too."""
    config = saved_run_config(run)
    source = source or config.source
    if source is None:
        raise ConfigError(f"{run} does not say where its images are; name them: e2vpt prune {run} DATA")
    task = _load(source, config.data)
    _say(_summary(task))
    _train(task, config, prune, run, resume=True)


def _train(task: Task, config: RunConfig, prune: PruneConfig | None, out: Path, *, resume: bool) -> None:
    with _kept_when_interrupted(out), training() as (on_step, on_epoch):
        if prune is None:
            done = train_run(task, config, out, resume=resume, on_step=on_step, on_epoch=on_epoch)
            tried: list[Tried] = []
        else:
            reporting = Reporting(on_stage=_say, on_step=on_step, on_epoch=on_epoch)
            pruned = train_and_prune(task, config, prune, out, resume=resume, reporting=reporting)
            done, tried = pruned.trained, pruned.tried
    if process_rank()[0] == 0:
        if tried:
            print_tried(tried)
        print(f"{'adapter':18} {done.adapter}")
        print(describe(read_adapter(done.adapter)))
    leave_processes()


def _train_by_the_paper(
    task: Task, config: RunConfig, prune: PruneConfig, out: Path, *, resume: bool
) -> None:
    with _kept_when_interrupted(out), training() as (on_step, _):
        reporting = Reporting(on_stage=_say, on_step=on_step)
        rows = train_by_the_paper(task, config, out, prune=prune, resume=resume, reporting=reporting)
    if process_rank()[0] == 0:
        print_final(rows)
        print(f"{'adapter':18} {out / ADAPTER}")
        print(describe(read_adapter(out / ADAPTER)))
    leave_processes()


@contextmanager
def _kept_when_interrupted(out: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        _say(
            f"Interrupted. Finished epochs are kept in {out}; "
            "the same command with --resume goes on from there."
        )
        raise typer.Exit(130) from None


def _absolute(source: str) -> str:
    """A path that means the same from another folder; anything else as it is."""
    return str(Path(source).resolve()) if Path(source).exists() else source


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
    images = _matching(*_split(_load(source, saved_data_config(adapter)), split), info)
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
        _say(f"{failed} of {len(images)} images could not be read.")
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
    out: Annotated[Path, typer.Option(help="Folder for the demo's run and images.")] = Path("runs/demo"),
) -> None:
    """Show head-only against E2VPT on handwritten digits: offline, about two minutes on two cores."""
    from e2vpt.demo import run_demo

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


def _load(source: str, data: DataConfig) -> Task:
    with image_check("Reading images") as update:
        return load_task(source, data, progress=update)


def _summary(task: Task) -> str:
    counts = ", ".join(f"{len(split)} {name}" for name, split in task.splits().items())
    return f"{task.name}: {len(task.classes)} classes; images: {counts}"


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


def _say(text: str) -> None:
    console.print(escape(text), soft_wrap=True)
