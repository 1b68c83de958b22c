"""The commands that run the paper's benchmarks: bench vtab, bench fgvc."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from e2vpt.benchmarks.compare.entries import ENTRIES
from e2vpt.benchmarks.fgvc.read import FGVC
from e2vpt.benchmarks.machine import machine
from e2vpt.benchmarks.suite.cell import Protocol
from e2vpt.benchmarks.suite.check import check_fgvc_sets, check_markdown, check_vtab
from e2vpt.benchmarks.suite.plan import made_up_images, plan, plan_markdown, published_tasks, suite_tasks
from e2vpt.benchmarks.suite.report import write_suite
from e2vpt.benchmarks.suite.run import Job, all_rows, merge, run_suite
from e2vpt.benchmarks.suite.tasks import Benchmark, Suite, open_suite
from e2vpt.benchmarks.vtab.data import Source
from e2vpt.benchmarks.vtab.tasks import VTAB
from e2vpt.cli.flags import with_config_flags
from e2vpt.cli.options import PRESET_NAMES, Weights, run_config, words
from e2vpt.config import DataConfig, GridConfig, MethodConfig, PromptConfig, PruneConfig, TrainConfig
from e2vpt.errors import ConfigError, RunError
from e2vpt.runs.progress import say, training
from e2vpt.runs.reporting import Reporting
from e2vpt.runs.start import absolute

SUITE_METHODS = (
    *("full", "linear", "partial-1", "mlp-3", "sidetune", "bias", "adapter", "lora"),
    *("vpt-shallow", "vpt-deep", "e2vpt-paper", "e2vpt"),
)
"""The rows of the papers' tables, LoRA, and this package's own recipe."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """What the two commands were told, beside the settings of trainings."""

    kind: Benchmark
    directory: str | None
    source: Source | None
    tasks: list[str]
    methods: list[str]
    backbone: str
    out: Path


def _command(kind: Benchmark) -> Callable[..., None]:
    def command(
        backbone: Annotated[str, typer.Option(help=f"A timm name, or a preset: {PRESET_NAMES}.")],
        prompts: PromptConfig,
        options: MethodConfig,
        data: DataConfig,
        train: TrainConfig,
        prune: PruneConfig,
        grid: GridConfig,
        directory: Annotated[
            str | None,
            typer.Option("--data", metavar="DIR", help="Where the data sets are."),
        ] = None,
        source: Annotated[
            Source | None, typer.Option(help="VTAB: whose images, where the directory has several.")
        ] = None,
        tasks: Annotated[str, typer.Option(help="Some of the tasks; all that are there if empty.")] = "",
        methods: Annotated[str, typer.Option(help=f"Which, of {', '.join(ENTRIES)}.")] = ",".join(
            SUITE_METHODS
        ),
        protocol: Annotated[
            Literal["fast", "paper"],
            typer.Option(help="A training for each seed (two to prune), or all of the paper's grid."),
        ] = "fast",
        tune: Annotated[
            bool, typer.Option(help="fast: try three learning rates for each task on validation images.")
        ] = False,
        seeds: Annotated[int, typer.Option(min=1, help="fast: final trainings of each cell.")] = 3,
        weights: Weights = None,
        out: Annotated[
            Path, typer.Option(help="Folder of the benchmark; goes on with what is there.")
        ] = Path(f"runs/bench-{kind}"),
        check: Annotated[
            bool, typer.Option("--check", help="Only look whether the data is complete and right.")
        ] = False,
        plan: Annotated[
            bool, typer.Option("--plan", help="Only say what it costs: trainings, hours, bytes.")
        ] = False,
        shard: Annotated[
            str, typer.Option(metavar="I/N", help="Run the I-th of N shares of the cells.")
        ] = "1/1",
        merge: Annotated[
            list[Path] | None,
            typer.Option(metavar="OUT", help="Take over the finished cells of that folder."),
        ] = None,
        jobs: Annotated[
            int, typer.Option(min=0, help="Cells at a time, by Ray, each with a GPU where there are any.")
        ] = 0,
        address: Annotated[str | None, typer.Option(help="A Ray cluster to run the cells on.")] = None,
    ) -> None:
        asked = _Asked(
            kind=kind,
            directory=None if directory is None else absolute(directory),
            source=source,
            tasks=words(tasks),
            methods=_known(words(methods)),
            backbone=backbone,
            out=out,
        )
        # A worker elsewhere starts in another folder.
        own_weights = None if weights is None else weights.resolve()
        config = run_config(backbone, own_weights, prompts=prompts, options=options, data=data, train=train)
        chosen = Protocol(name=protocol, config=config, prune=prune, grid=grid, seeds=seeds, tune=tune)
        if check:
            _check(asked)
        elif plan:
            _plan(asked, chosen)
        else:
            _run(asked, chosen, Job(shard=_share(shard), workers=jobs, address=address), merge or [])

    command.__doc__ = {
        "vtab": "Run VTAB-1k, 19 tasks, and print the papers' table beside their numbers.",
        "fgvc": "Run the five fine-grained data sets, and print the papers' table beside their numbers.",
    }[kind]
    return command


vtab = with_config_flags(_command("vtab"))
fgvc = with_config_flags(_command("fgvc"))


def _check(asked: _Asked) -> None:
    directory, whole = _directory(asked), VTAB if asked.kind == "vtab" else FGVC
    unknown = [name for name in asked.tasks if name not in whole]
    if unknown:
        raise ConfigError(f"tasks: {', '.join(unknown)}; expected some of {', '.join(whole)}.")
    look = check_vtab if asked.kind == "vtab" else check_fgvc_sets
    found = look(directory, asked.tasks, on_task=lambda name: say(f"Reading {name}"))
    print("\n".join(check_markdown(found)))
    if not found.right:
        raise typer.Exit(1)


def _plan(asked: _Asked, protocol: Protocol) -> None:
    if asked.directory is None:
        tasks, images = published_tasks(asked.kind), made_up_images()
        say("No --data: published sizes of the whole benchmark, and a photograph's worth of noise to decode.")
    else:
        tasks, images = suite_tasks(_suite(asked), protocol.config.data)
    tasks = [task for task in tasks if not asked.tasks or task.name in asked.tasks]
    found = []
    for method in asked.methods:
        say(f"Timing {method}")
        found += plan(tasks, protocol, [method], images)
    print("\n".join(plan_markdown(found)))


def _run(asked: _Asked, protocol: Protocol, job: Job, others: list[Path]) -> None:
    suite, out = _suite(asked), asked.out
    if others:
        say(f"{merge(others, out)} cells taken over.")
    problem = None
    with training() as (on_step, _):
        try:
            run_suite(suite, protocol, asked.methods, out, job, Reporting(on_stage=say, on_step=on_step))
        except KeyboardInterrupt:
            say(f"Interrupted. What is finished is kept in {out}; the same command goes on from there.")
            raise typer.Exit(130) from None
        except RunError as error:
            problem = error
    rows = all_rows(suite, protocol, asked.methods, out)
    if rows:
        words = f"{protocol.name} protocol, backbone {asked.backbone}, epochs {protocol.config.train.epochs}"
        print(write_suite(out, suite, rows, machine(), backbone=asked.backbone, note=words))
        print(
            f"report {out / 'results.md'}, {out / 'results.csv'}, {out / 'results.tex'}, {out / 'pareto.png'}"
        )
    if problem is not None:
        raise problem


def _suite(asked: _Asked) -> Suite:
    return open_suite(asked.kind, _directory(asked), asked.tasks, asked.source)


def _directory(asked: _Asked) -> str:
    if asked.directory is None:
        raise ConfigError("Say where the images are: --data DIR. docs/benchmarks.md says how to get them.")
    return asked.directory


def _known(methods: list[str]) -> list[str]:
    unknown = [name for name in methods if name not in ENTRIES]
    if unknown or not methods:
        raise ConfigError(f"methods: {', '.join(unknown) or 'none'}; expected some of {', '.join(ENTRIES)}.")
    return methods


def _share(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal()):
        raise ConfigError(f"shard is {text!r}; expected a number and how many there are, as in 3/20.")
    return int(index), int(count)
