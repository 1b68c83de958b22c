"""The commands, one function each. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from rich.markup import escape
from torch import nn

from e2vpt.adapter import load_adapter, read_adapter
from e2vpt.backbones import PRESETS
from e2vpt.config import DataConfig, PromptConfig, PruneConfig, TrainConfig, to_dict
from e2vpt.data import Split, Task, load_task
from e2vpt.data.loaders import make_loader
from e2vpt.errors import ConfigError, DataError, E2VPTError
from e2vpt.evaluate import evaluate
from e2vpt.flags import with_config_flags
from e2vpt.header import AdapterInfo
from e2vpt.predict import Prediction, find_images, predict_images
from e2vpt.processes import leave_processes, process_rank
from e2vpt.progress import console, image_check, print_tried, training
from e2vpt.pruned_files import Tried
from e2vpt.recipe import Reporting, train_and_prune
from e2vpt.run import RunConfig, adapter_path, saved_data_config, saved_run_config, train_run

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
    has_visual = method == "e2vpt" and prompts.num_visual not in (0, (0,))
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
    try:
        with training() as (on_step, on_epoch):
            if prune is None:
                done = train_run(task, config, out, resume=resume, on_step=on_step, on_epoch=on_epoch)
                tried: list[Tried] = []
            else:
                reporting = Reporting(on_stage=_say, on_step=on_step, on_epoch=on_epoch)
                pruned = train_and_prune(task, config, prune, out, resume=resume, reporting=reporting)
                done, tried = pruned.trained, pruned.tried
    except KeyboardInterrupt:
        _say(
            f"Interrupted. Finished epochs are kept in {out}; "
            "the same command with --resume goes on from there."
        )
        raise typer.Exit(130) from None
    if process_rank()[0] == 0:
        if tried:
            print_tried(tried)
        print(f"{'adapter':18} {done.adapter}")
        print(_describe(read_adapter(done.adapter)))
    leave_processes()


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
    failed = (_print_csv if as_csv else _print_json if as_json else _print_text)(found)
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
    print(json.dumps(_plain(found)) if as_json else _describe(found))


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


def _print_json(predictions: Iterable[Prediction]) -> int:
    failed = 0
    for p in predictions:
        failed += bool(p.error)
        shown = {"file": p.file, "classes": p.classes, "scores": p.scores}
        print(json.dumps({"file": p.file, "error": p.error} if p.error else shown), flush=True)
    return failed


def _print_csv(predictions: Iterable[Prediction]) -> int:
    failed = 0
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["file", "rank", "class", "score", "error"])
    for p in predictions:
        failed += bool(p.error)
        if p.error:
            writer.writerow([p.file, "", "", "", p.error])
        for rank, (name, score) in enumerate(zip(p.classes, p.scores, strict=True), 1):
            writer.writerow([p.file, rank, name, f"{score:.6f}", ""])
    return failed


def _print_text(predictions: Iterable[Prediction]) -> int:
    failed = 0
    for p in predictions:
        failed += bool(p.error)
        if p.error:
            console.print(f"[bold red]unreadable:[/] {escape(p.file)}: {escape(p.error)}", soft_wrap=True)
        else:
            ranked = ", ".join(f"{name} {score:.1%}" for name, score in zip(p.classes, p.scores, strict=True))
            print(f"{p.file}: {ranked}", flush=True)
    return failed


def _plain(info: AdapterInfo) -> dict[str, Any]:
    """The info as JSON values."""
    nested = {"preprocessing": info.preprocessing.to_dict(), "prompts": to_dict(info.prompts)}
    return {f.name: nested.get(f.name, getattr(info, f.name)) for f in dataclasses.fields(info)}


def _describe(info: AdapterInfo) -> str:
    classes = ", ".join(info.classes[:8]) + (", ..." if len(info.classes) > 8 else "")
    rows = {
        "method": info.method,
        "backbone": f"{info.backbone or 'without a name'} (weights {info.fingerprint[:12]})",
        "image size": f"{info.preprocessing.image_size[0]} x {info.preprocessing.image_size[1]}",
        "classes": f"{len(info.classes)}: {classes}",
        "visual prompts": f"{_counts(info.num_visual)}, {info.visual_kept:.0%} of their elements kept",
        "key-value prompts": _counts(info.num_kv),
        "parameters": f"{info.num_tuned} in prompts, {info.num_head} in the head",
        "file": f"{info.bytes} bytes, {info.precision}",
    }
    rows |= {name.replace("_", " "): f"{value:.4g}" for name, value in info.metrics.items()}
    return "\n".join(f"{name:18} {value}" for name, value in rows.items())


def _counts(counts: tuple[int, ...]) -> str:
    same = len(set(counts)) == 1
    return (
        f"{counts[0]} in each of {len(counts)} blocks" if same else f"by block {', '.join(map(str, counts))}"
    )


def _say(text: str) -> None:
    console.print(escape(text), soft_wrap=True)
