"""The whole job: labelled images to an adapter. `e2vpt train` and `e2vpt.train` are this function."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import Any

from e2vpt.config import PruneConfig
from e2vpt.data import Task
from e2vpt.data.sources.repeats import repeated_images
from e2vpt.errors import check_type, in_lines, visible
from e2vpt.runs.folders.run_config import RunConfig
from e2vpt.runs.models.load import load
from e2vpt.runs.models.task_model import TaskModel
from e2vpt.runs.progress import image_check, left_out_text, reported, say
from e2vpt.runs.recipe import Pruned, train_and_prune
from e2vpt.runs.reporting import Reporting
from e2vpt.runs.run import train_run
from e2vpt.runs.start import load_checked, plan_run
from e2vpt.training.checkpoint import Row
from e2vpt.training.processes import is_first_process


def train(
    source: str | PathLike[str] | None = None,
    backbone: str | None = None,
    out: str | PathLike[str] | None = None,
    *,
    resume: bool = False,
    verbose: bool = True,
    **settings: Any,
) -> TaskModel:
    """Train an adapter from labelled images, as `e2vpt train` does, to the same bytes.

    Args:
        source: a folder of class folders, a .tar, .tar.gz or .zip of it, a .csv, or hf:NAME.
        backbone: a timm name, or a preset.
        out: the run folder; runs/<name of the data> when not given.
        resume: go on with the run in `out`, which knows its images, backbone and settings.
        verbose: show progress on stderr.
        settings: any field of PromptConfig, MethodConfig, DataConfig, TrainConfig and PruneConfig, as in
            `epochs=50, image_size=96, num_visual=20`; and `method` (e2vpt, or what the paper compares it
            with: `e2vpt.methods.names.METHODS`), `recipe` ("default", "paper", "quick": the values that
            settings start from, `e2vpt.config.recipes`), `weights` (a local file instead of a download),
            `prune` (False: train once, prune nothing), `adapter_precision` ("fp32", "fp16").

    Returns:
        The trained model, loaded from the run folder.

    Raises:
        ConfigError: an unknown setting, or one that has no effect in what was asked.
        DataError: something is wrong with the images; UnreadableImages names each that does not decode.
        RunError: `out` holds a run already and `resume` is False, or cannot be written.
    """
    check_type("out", out, str, PathLike, NoneType)
    plan = plan_run(
        None if source is None else str(source),
        backbone,
        None if out is None else Path(out),
        settings,
        resume=resume,
    )
    with image_check("Reading images") if verbose else nullcontext() as update:
        task = load_checked(plan, update)
    train_task(task, plan.config, plan.prune, plan.out, resume=resume, verbose=verbose)
    return load(plan.out)


def train_task(
    task: Task,
    config: RunConfig,
    prune: PruneConfig | None,
    out: Path,
    *,
    resume: bool,
    verbose: bool,
    on_epoch: Callable[[Row], None] | None = None,
) -> Pruned:
    """Train a task into a run folder, and prune where asked; with `verbose`, show progress on stderr.

    `on_epoch` as in `fit`, beside what is shown.
    """
    if not verbose:
        return _run(task, config, prune, out, Reporting(on_epoch=on_epoch), resume=resume)
    if is_first_process():
        say(describe_task(task))
    with reported() as reporting:
        return _run(task, config, prune, out, reporting.also(on_epoch), resume=resume)


def _run(
    task: Task, config: RunConfig, prune: PruneConfig | None, out: Path, reporting: Reporting, *, resume: bool
) -> Pruned:
    if prune is not None:
        return train_and_prune(task, config, prune, out, resume=resume, reporting=reporting)
    trained = train_run(task, config, out, resume=resume, reporting=reporting)
    return Pruned(trained=trained, tried=[])


def describe_task(task: Task) -> str:
    """A task in lines: `pets: 2 classes; images: 576 train, 68 val`, classes, images left out or repeated."""
    counts = ", ".join(f"{len(split)} {name}" for name, split in task.splits().items())
    left = "".join(f"; {name} is left out, its images have no labels" for name in task.without_labels)
    names = ", ".join(map(visible, task.classes[:8])) + (", ..." if len(task.classes) > 8 else "")
    line = f"{visible(task.name)}: {len(task.classes)} classes; images: {counts}{left}\nclasses: {names}"
    if task.left_out:
        line += f"\n{left_out_text(dict(task.left_out))}"
    twice = repeated_images(task)
    if twice:
        line += f"\nwarning: {len(twice)} image(s) lie in two classes or two splits:\n{in_lines(twice)}"
    return line
