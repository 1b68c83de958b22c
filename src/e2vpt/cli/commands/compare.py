"""The command that compares methods: compare."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from e2vpt.benchmarks.compare.entries import (
    ENTRIES,
    check_extras,
    entries_named,
    pruned_as_asked,
    with_rates,
)
from e2vpt.cli.flags import with_config_flags
from e2vpt.cli.options import (
    NewBackbone,
    Weights,
    kept_when_interrupted,
    run_config,
    words,
)
from e2vpt.config import DataConfig, MethodConfig, PromptConfig, PruneConfig, TrainConfig
from e2vpt.errors import ConfigError
from e2vpt.runs.progress import image_check, reported

if TYPE_CHECKING:
    from e2vpt.data import Task

_IDLE = {
    "lr": "in a comparison, which tries rates for each method; --rates fixes them",
    "seed": "in a comparison, which has --seeds",
    "train_on": "in a comparison, which chooses on validation images",
}


@partial(with_config_flags, idle=_IDLE)
def compare_command(
    sources: Annotated[list[str], typer.Argument(metavar="DATA...", help="Labelled images, as for train.")],
    prompts: PromptConfig,
    options: MethodConfig,
    data: DataConfig,
    train: TrainConfig,
    prune: PruneConfig,
    given: Mapping[str, Any],
    backbone: NewBackbone = None,
    methods: Annotated[str, typer.Option(help=f"Which, of {', '.join(ENTRIES)}.")] = ",".join(ENTRIES),
    seeds: Annotated[int, typer.Option(min=1, help="Final trainings of each method on each task.")] = 3,
    tune_on: Annotated[
        str | None,
        typer.Option(help="Tasks that learning rates are chosen on; the first two when not given."),
    ] = None,
    rates: Annotated[
        str | None,
        typer.Option(
            help="Rates that are known already, as bias=0.01,full=3e-4; these are not chosen again."
        ),
    ] = None,
    weights: Weights = None,
    out: Annotated[Path, typer.Option(help="Folder of the comparison.")] = Path("runs/compare"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the comparison in --out.")] = False,
) -> None:
    """Compare methods: three learning rates each, chosen on validation images, then seeds; one table.

    --epochs counts all trainings of a run: a method that prunes divides them between two, or, where each
    would have fewer than ten, prunes late in one. Rows that prune as published always train twice.
    """
    rows = with_rates(entries_named(words(methods)), _rates(rates or ""))
    entries = {name: pruned_as_asked(entry, given) for name, entry in rows.items()}
    from e2vpt.benchmarks.compare.compare import Comparison, compare_methods
    from e2vpt.benchmarks.compare.report import RESULT_FILES, write_comparison
    from e2vpt.benchmarks.machine import machine
    from e2vpt.runs.folders.opening import check_out
    from e2vpt.runs.start import absolute, check_backbone_fits, named_backbone

    check_out(out, resume=resume)
    check_extras(entries.values())
    config = run_config(
        named_backbone(backbone), weights, prompts=prompts, options=options, data=data, train=train
    )
    check_backbone_fits(config)
    tasks = _tasks([absolute(source) for source in sources], data)
    asked = words(tune_on) if tune_on is not None else _tuned_before(out) if resume else None
    comparison = Comparison(
        tasks=tasks,
        config=config,
        entries=entries,
        tune_on=list(tasks)[:2] if asked is None else asked,
        prune=prune,
        seeds=seeds,
        equal_epochs=True,
        late_where_few=not given.keys() & {"prune_at", "rewind"},
    )
    comparison = dataclasses.replace(comparison, tasks=_decoded(tasks, data))
    with kept_when_interrupted(out), reported() as reporting:
        trials = compare_methods(comparison, out, resume=resume, reporting=reporting)
    print(write_comparison(out, trials, machine()))
    print(f"report {', '.join(str(out / name) for name in RESULT_FILES)}")


def _tasks(sources: Sequence[str], data: DataConfig) -> dict[str, Task]:
    """By name, not yet decoded: that may take minutes, and names may be wrong."""
    from e2vpt.data import load_task

    tasks = {task.name: task for task in (load_task(source, data, verify=False) for source in sources)}
    if len(tasks) < len(sources):
        raise ConfigError(f"Two of {', '.join(sources)} have the same name; rename one.")
    return tasks


def _decoded(tasks: Mapping[str, Task], data: DataConfig) -> dict[str, Task]:
    """With every image looked at."""
    found = {}
    for name, task in tasks.items():
        with image_check("Reading images") as update:
            found[name] = task.decoded(skip=data.skip_unreadable, progress=update)
    return found


def _tuned_before(out: Path) -> list[str] | None:
    """The tasks that the comparison in a folder chose its rates on; None where there is none."""
    from e2vpt.files.paths import look_at
    from e2vpt.runs.folders.folder import CONFIG, read_config

    tuned = read_config(out / CONFIG).get("tune_on") if look_at(out / CONFIG) != "nothing" else None
    return tuned if isinstance(tuned, list) else None


def _rates(text: str) -> dict[str, float]:
    """Learning rates by method, as `bias=0.01,full=3e-4`."""
    found: dict[str, float] = {}
    for word in words(text):
        name, _, rate = word.partition("=")
        try:
            found[name.strip()] = float(rate)
        except ValueError:
            raise ConfigError(f"rates: {word!r}; expected METHOD=RATE, as in bias=0.01.") from None
    return found
