"""The commands that train: train, prune."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from e2vpt.cli.flags import with_config_flags, with_recipe_flags
from e2vpt.cli.options import (
    DATA_HELP,
    NewBackbone,
    Weights,
    load_images,
    note_slow,
)
from e2vpt.config import DataConfig, GridConfig, MethodConfig, PromptConfig, PruneConfig, TrainConfig
from e2vpt.config.groups import TRAINING, check_effect, configs_from, field_names
from e2vpt.config.recipes import RECIPES, Recipe, recipe_groups
from e2vpt.errors import ConfigError, RunError
from e2vpt.methods.names import METHODS, Method
from e2vpt.runs.progress import image_check

_NO_SETTINGS = {
    *("source", "backbone", "out", "resume", "no_prune", "protocol"),
    *("no_report", "calibrate", "tensorboard"),
    *field_names("grid"),
}


_RECIPES = "Settings to start from. " + " ".join(
    f"{name}: {', '.join(f'{key}={value}' for key, value in values.items())}."
    for name, values in RECIPES.items()
    if values
)


@with_recipe_flags
def train_command(
    prompts: PromptConfig,
    options: MethodConfig,
    data: DataConfig,
    train: TrainConfig,
    prune: PruneConfig,
    grid: GridConfig,
    given: Mapping[str, Any],
    source: Annotated[
        str | None, typer.Argument(metavar="DATA", help=f"{DATA_HELP} With --resume, the run knows.")
    ] = None,
    backbone: NewBackbone = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/<data name> when not given.")] = None,
    weights: Weights = None,
    method: Annotated[
        Method,
        typer.Option(metavar="METHOD", help=f"e2vpt, or what it is compared with: {', '.join(METHODS[1:])}."),
    ] = "e2vpt",
    recipe: Annotated[Recipe, typer.Option(help=_RECIPES)] = "default",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    no_prune: Annotated[
        bool, typer.Option("--no-prune", help="One training with all prompts, nothing pruned.")
    ] = False,
    no_report: Annotated[
        bool, typer.Option("--no-report", help="No test accuracy and no report.html at the end.")
    ] = False,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Store a temperature fitted on validation images; say it again with --resume.",
        ),
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write TensorBoard logs to RUN/tensorboard too.")
    ] = False,
    protocol: Annotated[
        Literal["fast", "paper"],
        typer.Option(hidden=True, help="A few trainings, or all 126 of the paper's search (SGD, its grids)."),
    ] = "fast",
    adapter_precision: Annotated[
        Literal["fp32", "fp16"],
        typer.Option(hidden=True, help="Precision of the numbers in the adapter file."),
    ] = "fp32",
) -> None:
    """Train an adapter from labelled images: train, prune, rewind, train again, keep the best."""
    if protocol == "paper" and no_prune:
        raise ConfigError("--no-prune has no effect with --protocol paper; use --keep-ratios '' there.")
    if protocol == "paper" and tensorboard:
        raise ConfigError(
            "--tensorboard has no effect with --protocol paper, whose 126 trainings write figures only."
        )
    if protocol == "paper" and calibrate:
        raise ConfigError(
            "--calibrate has no effect with --protocol paper, whose final trainings have the validation "
            "images too."
        )
    if calibrate and no_report:
        raise ConfigError("--calibrate needs the report's evaluation; leave out --no-report.")
    from e2vpt.cli.jobs import training
    from e2vpt.insight.reports.tensorboard import tensorboard_log
    from e2vpt.runs.start import load_checked, plan_run
    from e2vpt.training.processes import is_first_process, leave_processes

    asked = {name: value for name, value in given.items() if name not in _NO_SETTINGS}
    if no_prune:
        asked["prune"] = False
    of_grid = given.keys() & set(field_names("grid"))
    plan = plan_run(source, backbone, out, asked, resume=resume, protocol=protocol, also=of_grid)
    if resume and not calibrate and training.is_calibrated(plan.out):
        if no_report:
            raise ConfigError(
                f"The adapter of {plan.out} is calibrated, and is written again. Leave out --no-report."
            )
        calibrate = protocol == "fast"
    note_slow(plan.config.train.precision)
    with image_check("Reading images") as update:
        task = load_checked(plan, update)
    if protocol == "paper":
        training.train_protocol_and_print(task, plan.config, prune, grid, plan.out, resume=resume)
    else:
        on_epoch = tensorboard_log(plan.out) if tensorboard else None
        training.train_and_print(task, plan.config, plan.prune, plan.out, resume=resume, on_epoch=on_epoch)
    if is_first_process():
        if not no_report:
            training.report_and_print(task, plan.out, calibrate=calibrate)
        training.print_next(task, plan)
    leave_processes()


@partial(with_config_flags, idle={"prune_at": "for a run that is trained already"})
def prune_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of `e2vpt train --no-prune`.")],
    prune: PruneConfig,
    given: Mapping[str, Any],
    source: Annotated[
        str | None, typer.Argument(metavar="[DATA]", help="The images, where they are not where they were.")
    ] = None,
) -> None:
    """Prune the prompts of a finished run, rewind and train again, keep the best; the first one stays too."""
    from e2vpt.cli.jobs.training import is_calibrated, report_and_print, train_and_print
    from e2vpt.runs.folders.folder import is_by_the_paper
    from e2vpt.runs.folders.opening import check_out
    from e2vpt.runs.folders.run_config import saved_run_config
    from e2vpt.training.processes import is_first_process, leave_processes

    config = saved_run_config(run)
    if is_by_the_paper(run):
        raise RunError(f"{run} holds a run of the paper's protocol, which has pruned already.")
    source = source or config.source
    if source is None:
        raise ConfigError(f"{run} does not say where its images are; name them: e2vpt prune {run} DATA")
    asked = {name: value for name, value in given.items() if name in field_names("prune")}
    prune = configs_from(asked, ["prune"], base=recipe_groups(config.recipe))["prune"]
    groups = {name: getattr(config, name) for name in TRAINING if name != "prune"} | {"prune": prune}
    check_effect(asked, groups, method=config.method, prunes=True)
    check_out(run, resume=True)
    task, calibrate = load_images(source, config.data), is_calibrated(run)
    train_and_print(task, config, prune, run, resume=True, again="the same command")
    if is_first_process():
        report_and_print(task, run, calibrate=calibrate)
    leave_processes()
