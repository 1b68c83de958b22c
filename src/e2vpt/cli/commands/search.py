"""The command that searches settings: search."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from e2vpt.cli.flags import with_recipe_flags
from e2vpt.cli.options import (
    DataArgument,
    NewBackbone,
    Weights,
    kept_when_interrupted,
    load_images,
    run_config,
)
from e2vpt.cli.output import describe, print_trials
from e2vpt.config import DataConfig, PromptConfig, PruneConfig, SearchConfig, TrainConfig
from e2vpt.errors import visible
from e2vpt.runs.progress import reported, say

_IDLE = {
    **dict.fromkeys(
        ("lr", "weight_decay", "num_visual", "num_kv", "init", "keep"),
        "in a search, which tries values of its own; see --help-all",
    ),
    **dict.fromkeys(("keep_tokens", "keep_segments"), "in a search, which tries --keep-choices"),
    **dict.fromkeys(("finalists", "tolerance"), "in a search, whose trials keep what they pruned"),
    "prune_at": "in a search, whose trials train twice where they prune",
    "train_on": "in a search, which chooses on validation images",
}


@partial(with_recipe_flags, idle=_IDLE)
def search_command(
    source: DataArgument,
    prompts: PromptConfig,
    data: DataConfig,
    train: TrainConfig,
    prune: PruneConfig,
    search: SearchConfig,
    backbone: NewBackbone = None,
    out: Annotated[
        Path | None, typer.Option(help="Search folder; runs/<data name>-search when not given.")
    ] = None,
    weights: Weights = None,
    engine: Annotated[
        Literal["optuna", "ray"],
        typer.Option(help="In this process, or on a Ray cluster, --workers trials at a time."),
    ] = "optuna",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the search in --out.")] = False,
) -> None:
    """Search rates, prompt lengths, keep ratios and initial values by validation accuracy."""
    from e2vpt.adapters.files import read_adapter
    from e2vpt.runs.folders.folder import ADAPTER
    from e2vpt.runs.folders.opening import check_out
    from e2vpt.runs.start import absolute, check_backbone_fits, named_backbone
    from e2vpt.runs.train import describe_task
    from e2vpt.search.cluster import import_ray
    from e2vpt.search.here import import_optuna, search_here
    from e2vpt.search.on_cluster import check_extent, search_on_cluster

    if out is not None:
        check_out(out, resume=resume)
    if engine == "ray":
        import_ray()
    else:
        import_optuna()
    source = absolute(source)
    config = run_config(
        named_backbone(backbone), weights, prompts=prompts, data=data, train=train, source=source
    )
    check_backbone_fits(config)
    if out is not None and engine == "ray":
        check_extent(out, search.trials, max(1, data.workers))
    task = load_images(source, data)
    out = out or Path("runs") / f"{task.name}-search"
    say(describe_task(task))
    with kept_when_interrupted(out):
        if engine == "ray":
            # Every worker is a process of its own already: it loads its images itself.
            config = dataclasses.replace(config, data=dataclasses.replace(data, workers=0))
            workers = max(1, data.workers)
            results = search_on_cluster(
                task, config, out, search=search, prune=prune, workers=workers, resume=resume
            )
        else:
            with reported() as reporting:
                results = search_here(
                    task, config, out, search=search, prune=prune, resume=resume, reporting=reporting
                )
    print_trials(results)
    print(f"{'adapter':18} {visible(str(out / ADAPTER))}")
    print(describe(read_adapter(out / ADAPTER)))
