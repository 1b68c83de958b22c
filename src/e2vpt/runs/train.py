"""The whole job: labelled images to an adapter. `e2vpt train` and `e2vpt.train` are this function."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any, Literal

from e2vpt.config import PruneConfig
from e2vpt.config.groups import check_effect, configs_from
from e2vpt.data import Task, load_task
from e2vpt.methods.names import prompts_of
from e2vpt.runs.folder import RunConfig
from e2vpt.runs.progress import image_check, say, training
from e2vpt.runs.recipe import Pruned, train_and_prune
from e2vpt.runs.reporting import Reporting
from e2vpt.runs.run import train_run
from e2vpt.runs.task_model import TaskModel, load
from e2vpt.training.processes import process_rank


def train(
    source: str | PathLike[str],
    backbone: str,
    out: str | PathLike[str] | None = None,
    *,
    weights: str | PathLike[str] | None = None,
    method: str = "e2vpt",
    prune: bool = True,
    resume: bool = False,
    adapter_precision: Literal["fp32", "fp16"] = "fp32",
    verbose: bool = True,
    **settings: Any,
) -> TaskModel:
    """Train an adapter from labelled images, as `e2vpt train` does, to the same bytes.

    Args:
        source: a folder of class folders, a .tar of it, a .csv, or hf:NAME.
        backbone: a timm name, or a preset.
        out: the run folder; runs/<name of the data> when not given.
        weights: a local file of the backbone's weights, instead of a download.
        method: e2vpt, or what the paper compares it with (`e2vpt.methods.names.METHODS`).
        prune: train, prune, rewind, train again (methods with visual prompts); False: train once.
        resume: go on with the run in `out`.
        adapter_precision: of the numbers in the adapter file.
        verbose: show progress on stderr.
        settings: any field of PromptConfig, MethodConfig, DataConfig, TrainConfig and PruneConfig, as in
            `epochs=50, image_size=96, num_visual=20`.

    Returns:
        The trained model, loaded from the run folder.

    Raises:
        ConfigError: an unknown setting, or one that has no effect in what was asked.
        DataError: something is wrong with the images; UnreadableImages names each that does not decode.
        RunError: `out` holds a run already and `resume` is False, or cannot be written.
    """
    configs = configs_from(settings)
    pruning = configs.pop("prune") if prune and has_visual(method, configs["prompts"]) else None
    configs.pop("prune", None)
    check_effect(settings, method=method, prunes=pruning is not None, optimizer=configs["train"].optimizer)
    if verbose:
        with image_check("Reading images") as update:
            task = load_task(source, configs["data"], progress=update)
    else:
        task = load_task(source, configs["data"])
    config = RunConfig(
        backbone=backbone,
        weights=None if weights is None else str(weights),
        method=method,
        adapter_precision=adapter_precision,
        source=absolute(str(source)),
        **configs,
    )
    folder = Path(out) if out is not None else Path("runs") / task.name
    train_task(task, config, pruning, folder, resume=resume, verbose=verbose)
    return load(folder, weights=weights)


def train_task(
    task: Task, config: RunConfig, prune: PruneConfig | None, out: Path, *, resume: bool, verbose: bool
) -> Pruned:
    """Train a task into a run folder, and prune where asked; with `verbose`, show progress on stderr."""
    if not verbose:
        return _run(task, config, prune, out, Reporting(), resume=resume)
    if process_rank()[0] == 0:
        say(describe_task(task))
    with training() as (on_step, on_epoch):
        reporting = Reporting(on_stage=say, on_step=on_step, on_epoch=on_epoch)
        return _run(task, config, prune, out, reporting, resume=resume)


def _run(
    task: Task, config: RunConfig, prune: PruneConfig | None, out: Path, reporting: Reporting, *, resume: bool
) -> Pruned:
    if prune is not None:
        return train_and_prune(task, config, prune, out, resume=resume, reporting=reporting)
    trained = train_run(
        task,
        config,
        out,
        resume=resume,
        on_stage=reporting.stage,
        on_step=reporting.on_step,
        on_epoch=reporting.on_epoch,
    )
    return Pruned(trained=trained, tried=[])


def has_visual(method: str, prompts: Any) -> bool:
    """Whether a method has visual prompts that could be pruned, as `train` does: the paper's method only."""
    own = prompts_of(method, prompts)
    return method == "e2vpt" and own is not None and own.num_visual != 0


def describe_task(task: Task) -> str:
    """A task in a line: `pets: 37 classes; images: 2576 train, 368 val, 736 test`."""
    counts = ", ".join(f"{len(split)} {name}" for name, split in task.splits().items())
    return f"{task.name}: {len(task.classes)} classes; images: {counts}"


def absolute(source: str) -> str:
    """A path that means the same from another folder; anything else as it is."""
    return str(Path(source).resolve()) if Path(source).exists() else source
