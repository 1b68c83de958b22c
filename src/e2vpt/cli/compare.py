"""The command that compares methods: compare."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated

import typer

from e2vpt.benchmarks.compare.compare import Comparison, compare_methods
from e2vpt.benchmarks.compare.entries import ENTRIES
from e2vpt.benchmarks.compare.report import write_comparison
from e2vpt.benchmarks.machine import machine
from e2vpt.cli.flags import with_config_flags
from e2vpt.cli.options import (
    PRESET_NAMES,
    Weights,
    kept_when_interrupted,
    load_images,
    run_config,
    words,
)
from e2vpt.config import DataConfig, MethodConfig, PromptConfig, PruneConfig, TrainConfig
from e2vpt.errors import ConfigError
from e2vpt.runs.folder import check_out
from e2vpt.runs.progress import say, training
from e2vpt.runs.reporting import Reporting
from e2vpt.runs.start import absolute


@with_config_flags
def compare_command(
    sources: Annotated[list[str], typer.Argument(metavar="DATA...", help="Labelled images, as for train.")],
    backbone: Annotated[str, typer.Option(help=f"A timm name, or a preset: {PRESET_NAMES}.")],
    prompts: PromptConfig,
    options: MethodConfig,
    data: DataConfig,
    train: TrainConfig,
    prune: PruneConfig,
    methods: Annotated[str, typer.Option(help=f"Which, of {', '.join(ENTRIES)}.")] = ",".join(ENTRIES),
    seeds: Annotated[int, typer.Option(min=1, help="Final trainings of each method on each task.")] = 3,
    tune_on: Annotated[
        str | None,
        typer.Option(help="Tasks that learning rates are chosen on; the first two when not given."),
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=TASK,TASK", help="A group of tasks: the table gets its mean, T and G."),
    ] = None,
    weights: Weights = None,
    out: Annotated[Path, typer.Option(help="Folder of the comparison.")] = Path("runs/compare"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the comparison in --out.")] = False,
) -> None:
    """Compare methods: three learning rates each, chosen on validation images, then seeds; one table."""
    check_out(out, resume=resume)
    tasks = {task.name: task for task in (load_images(absolute(source), data) for source in sources)}
    if len(tasks) < len(sources):
        raise ConfigError(f"Two of {', '.join(sources)} have the same name; rename one.")
    names = words(methods)
    unknown = [name for name in names if name not in ENTRIES]
    if unknown or not names:
        raise ConfigError(f"methods: {', '.join(unknown) or 'none'}; expected some of {', '.join(ENTRIES)}.")
    groups = _groups(group or [], tasks)
    comparison = Comparison(
        tasks=tasks,
        config=run_config(backbone, weights, prompts=prompts, options=options, data=data, train=train),
        entries={name: ENTRIES[name] for name in names},
        tune_on=list(tasks)[:2] if tune_on is None else words(tune_on),
        prune=prune,
        seeds=seeds,
    )
    with kept_when_interrupted(out), training() as (on_step, _):
        rows = compare_methods(
            comparison, out, resume=resume, reporting=Reporting(on_stage=say, on_step=on_step)
        )
    print(write_comparison(out, rows, machine(), groups))
    print(f"report {out / 'results.md'}, {out / 'results.csv'}, {out / 'results.tex'}, {out / 'pareto.png'}")


def _groups(texts: Sequence[str], tasks: Collection[str]) -> dict[str, list[str]]:
    """`natural=pets,birds` as a group and its tasks."""
    found = {}
    for text in texts:
        name, _, members = text.partition("=")
        found[name] = words(members)
        unknown = [member for member in found[name] if member not in tasks]
        if not name or not found[name] or unknown:
            raise ConfigError(
                f"group: {text!r}; expected a name, = and some of the tasks {', '.join(tasks)}, as in "
                f"natural={','.join(tasks)}."
            )
    return found
