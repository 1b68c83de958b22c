"""The command that compares methods: compare."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from e2vpt.benchmarks.compare.entries import ENTRIES, entries_named, with_rates
from e2vpt.cli.flags import with_config_flags
from e2vpt.cli.options import (
    NewBackbone,
    Weights,
    kept_when_interrupted,
    load_images,
    run_config,
    words,
)
from e2vpt.config import DataConfig, MethodConfig, PromptConfig, PruneConfig, TrainConfig
from e2vpt.errors import ConfigError
from e2vpt.runs.progress import reported

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
    would have fewer than ten, prunes late in one.
    """
    from e2vpt.benchmarks.compare.compare import Comparison, compare_methods
    from e2vpt.benchmarks.compare.report import RESULT_FILES, write_comparison
    from e2vpt.benchmarks.machine import machine
    from e2vpt.runs.folders.opening import check_out
    from e2vpt.runs.start import absolute, named_backbone

    name = named_backbone(backbone)
    check_out(out, resume=resume)
    tasks = {task.name: task for task in (load_images(absolute(source), data) for source in sources)}
    if len(tasks) < len(sources):
        raise ConfigError(f"Two of {', '.join(sources)} have the same name; rename one.")
    comparison = Comparison(
        tasks=tasks,
        config=run_config(name, weights, prompts=prompts, options=options, data=data, train=train),
        entries=with_rates(entries_named(words(methods)), _rates(rates or "")),
        tune_on=list(tasks)[:2] if tune_on is None else words(tune_on),
        prune=prune,
        seeds=seeds,
        equal_epochs=True,
        late_where_few=not given.keys() & {"prune_at", "rewind"},
    )
    with kept_when_interrupted(out), reported() as reporting:
        rows = compare_methods(comparison, out, resume=resume, reporting=reporting)
    print(write_comparison(out, rows, machine()))
    print(f"report {', '.join(str(out / name) for name in RESULT_FILES)}")


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
