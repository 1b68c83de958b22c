"""The commands that train: train, prune, search."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import typer

from e2vpt.adapters.files import read_adapter
from e2vpt.cli.flags import with_config_flags
from e2vpt.cli.options import (
    PRESET_NAMES,
    DataArgument,
    Weights,
    absolute,
    kept_when_interrupted,
    load,
    run_config,
    say,
)
from e2vpt.cli.output import describe, print_final, print_trials, print_tried
from e2vpt.config import (
    DataConfig,
    GridConfig,
    MethodConfig,
    PromptConfig,
    PruneConfig,
    SearchConfig,
    TrainConfig,
)
from e2vpt.data import Task
from e2vpt.errors import ConfigError
from e2vpt.methods.names import Method
from e2vpt.runs.folder import ADAPTER, RunConfig, saved_run_config
from e2vpt.runs.progress import training
from e2vpt.runs.protocol import train_by_the_paper
from e2vpt.runs.recipe import train_and_prune
from e2vpt.runs.reporting import Reporting
from e2vpt.runs.run import train_run
from e2vpt.runs.tried import Tried
from e2vpt.search.here import search_here
from e2vpt.search.on_cluster import search_on_cluster
from e2vpt.training.processes import leave_processes, process_rank


@with_config_flags
def train(
    source: DataArgument,
    backbone: Annotated[str, typer.Option(help=f"A timm name, or a preset: {PRESET_NAMES}.")],
    prompts: PromptConfig,
    options: MethodConfig,
    data: DataConfig,
    train: TrainConfig,
    prune: PruneConfig,
    grid: GridConfig,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/<data name> when not given.")] = None,
    weights: Weights = None,
    method: Annotated[
        Method, typer.Option(help="Prompts of several kinds, or what the paper compares them with.")
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
    task = load(source, data)
    out = out or Path("runs") / task.name
    config = run_config(
        backbone,
        weights,
        method=method,
        prompts=prompts,
        options=options,
        data=data,
        train=train,
        adapter_precision=adapter_precision,
        source=absolute(source),
    )
    _say_what(task)
    has_visual = method == "e2vpt" and prompts.num_visual != 0
    if protocol == "paper":
        _train_by_the_paper(task, config, prune, grid, out, resume=resume)
    else:
        _train(task, config, None if no_prune or not has_visual else prune, out, resume=resume)


@with_config_flags
def prune(
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
    task = load(source, config.data)
    _say_what(task)
    _train(task, config, prune, run, resume=True)


@with_config_flags
def search(
    source: DataArgument,
    backbone: Annotated[str, typer.Option(help=f"A timm name, or a preset: {PRESET_NAMES}.")],
    prompts: PromptConfig,
    data: DataConfig,
    train: TrainConfig,
    prune: PruneConfig,
    search: SearchConfig,
    out: Annotated[
        Path | None, typer.Option(help="Search folder; runs/<data name>-search when not given.")
    ] = None,
    weights: Weights = None,
    engine: Annotated[
        Literal["optuna", "ray"],
        typer.Option(help="In this process, or on a Ray cluster, --workers trials at a time."),
    ] = "optuna",
    resume: Annotated[bool, typer.Option(help="Go on with the search in --out.")] = False,
) -> None:
    """Search rates, prompt lengths, keep ratios and initial values by validation accuracy."""
    task = load(absolute(source), data)
    out = out or Path("runs") / f"{task.name}-search"
    _say_what(task)
    config = run_config(
        backbone,
        weights,
        prompts=prompts,
        data=data,
        train=train,
        source=absolute(source),
    )
    with kept_when_interrupted(out):
        if engine == "ray":
            # Every worker is a process of its own already: it loads its images itself.
            config = dataclasses.replace(config, data=dataclasses.replace(data, workers=0))
            workers = max(1, data.workers)
            results = search_on_cluster(
                task, config, out, search=search, prune=prune, workers=workers, resume=resume
            )
        else:
            with training() as (on_step, _):
                reporting = Reporting(on_stage=say, on_step=on_step)
                results = search_here(
                    task, config, out, search=search, prune=prune, resume=resume, reporting=reporting
                )
    print_trials(results)
    print(f"{'adapter':18} {out / ADAPTER}")
    print(describe(read_adapter(out / ADAPTER)))


def _train(task: Task, config: RunConfig, prune: PruneConfig | None, out: Path, *, resume: bool) -> None:
    with kept_when_interrupted(out), training() as (on_step, on_epoch):
        if prune is None:
            done = train_run(task, config, out, resume=resume, on_step=on_step, on_epoch=on_epoch)
            tried: list[Tried] = []
        else:
            reporting = Reporting(on_stage=say, on_step=on_step, on_epoch=on_epoch)
            pruned = train_and_prune(task, config, prune, out, resume=resume, reporting=reporting)
            done, tried = pruned.trained, pruned.tried
    if process_rank()[0] == 0:
        if tried:
            print_tried(tried)
        print(f"{'adapter':18} {done.adapter}")
        print(describe(read_adapter(done.adapter)))
    leave_processes()


def _train_by_the_paper(
    task: Task, config: RunConfig, prune: PruneConfig, grid: GridConfig, out: Path, *, resume: bool
) -> None:
    with kept_when_interrupted(out), training() as (on_step, _):
        reporting = Reporting(on_stage=say, on_step=on_step)
        rows = train_by_the_paper(
            task, config, out, prune=prune, grid=grid, resume=resume, reporting=reporting
        )
    if process_rank()[0] == 0:
        print_final(rows)
        print(f"{'adapter':18} {out / ADAPTER}")
        print(describe(read_adapter(out / ADAPTER)))
    leave_processes()


def _say_what(task: Task) -> None:
    if process_rank()[0] == 0:
        counts = ", ".join(f"{len(split)} {name}" for name, split in task.splits().items())
        say(f"{task.name}: {len(task.classes)} classes; images: {counts}")
