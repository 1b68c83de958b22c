"""The commands that run the paper's benchmarks: bench vtab, bench fgvc."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from e2vpt.benchmarks.compare.entries import ENTRIES, check_extras, entries_named
from e2vpt.benchmarks.vtab.data import Source
from e2vpt.cli.flags import with_config_flags
from e2vpt.cli.options import BackboneName, Weights, run_config, words
from e2vpt.config import DataConfig, GridConfig, MethodConfig, PromptConfig, PruneConfig, TrainConfig
from e2vpt.config.groups import BY_THE_PAPER, field_names, refuse_idle
from e2vpt.config.recipes import PUBLISHED_START
from e2vpt.errors import ConfigError, RunError
from e2vpt.runs.progress import reported, say

if TYPE_CHECKING:
    from e2vpt.benchmarks.suite.cell import Protocol
    from e2vpt.benchmarks.suite.tasks import Benchmark, Suite

SUITE_METHODS = (
    *("full", "linear", "partial-1", "mlp-3", "sidetune", "bias", "adapter", "lora"),
    *("vpt-shallow", "vpt-deep", "e2vpt-paper", "e2vpt"),
)
"""The rows of the papers' tables, LoRA, and this package's own recipe."""


_IDLE = {
    "lr": "in a benchmark, whose methods have their own rates; --tune tries others",
    "seed": "in a benchmark, which has --seeds",
    "train_on": "in a benchmark, whose protocol says so",
    "prune_at": "in a benchmark, which trains twice where it prunes",
}
_IDLE_WITH: dict[str, dict[str, str]] = {
    "fast": dict.fromkeys(field_names("grid"), "without --protocol paper"),
    # How prompts start is settled by each row, not by the protocol.
    "paper": dict.fromkeys(
        (*(set(BY_THE_PAPER) - set(PUBLISHED_START)), "seeds", "tune", "weight_decay", "optimizer"),
        "with --protocol paper",
    ),
}


def _command(kind: Benchmark) -> Callable[..., None]:
    def command(
        backbone: BackboneName,
        prompts: PromptConfig,
        options: MethodConfig,
        data: DataConfig,
        train: TrainConfig,
        prune: PruneConfig,
        grid: GridConfig,
        given: Mapping[str, Any],
        directory: Annotated[
            str | None,
            typer.Option("--data", metavar="DIR", help="Where the data sets are."),
        ] = None,
        source: Annotated[
            Source | None, typer.Option(help="Whose images, where the directory has several.")
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
        only_plan: Annotated[
            bool,
            typer.Option(
                "--plan", help="Only say what it costs: trainings, hours, bytes; --data is optional."
            ),
        ] = False,
        shard: Annotated[
            str, typer.Option(metavar="I/N", help="Run the I-th of N shares of the cells.")
        ] = "1/1",
        merged: Annotated[
            list[Path] | None,
            typer.Option("--merge", metavar="OUT", help="Take over the finished cells of that folder."),
        ] = None,
        jobs: Annotated[
            int, typer.Option(min=0, help="Cells at a time, by Ray, each with a GPU where there are any.")
        ] = 0,
        address: Annotated[str | None, typer.Option(help="A Ray cluster to run the cells on.")] = None,
    ) -> None:
        refuse_idle(given, _IDLE_WITH[protocol])
        if data.skip_unreadable:
            raise ConfigError("--skip-unreadable is not for benchmarks: their numbers are of whole sets.")
        entries, some = entries_named(words(methods)), _known_tasks(kind, words(tasks))
        names, share = list(entries), _share(shard)
        from e2vpt.benchmarks.suite.cell import Protocol
        from e2vpt.benchmarks.suite.run import merge
        from e2vpt.benchmarks.suite.tasks import FINAL_ON, open_suite
        from e2vpt.runs.start import absolute
        from e2vpt.search.cluster import import_ray

        if kind == "fgvc" and data.preprocess == "imagenet":
            data = dataclasses.replace(data, preprocess="imagenet-crop")
        # A worker elsewhere starts in another folder.
        own_weights = None if weights is None else Path(absolute(str(weights)))
        config = run_config(backbone, own_weights, prompts=prompts, options=options, data=data, train=train)
        chosen = Protocol(
            name=protocol,
            config=config,
            prune=prune,
            grid=grid,
            seeds=seeds,
            tune=tune,
            final_on=FINAL_ON[kind],
            given=given.keys() & set(field_names("prune")),
        )
        if only_plan and directory is None:
            _plan(kind, some, chosen, names)
            return
        if directory is None:
            raise ConfigError(
                "Say where the images are: --data DIR. docs/benchmarks.md says how to get them."
            )
        if check:
            _check(kind, absolute(directory), some)
            return
        suite = open_suite(kind, absolute(directory), some, source)
        if only_plan:
            _plan(kind, suite.tasks, chosen, names)
        else:
            check_extras(entries.values())
            if jobs or address:
                import_ray()
            where = {"shard": share, "workers": jobs, "address": address}
            if merged:
                say(f"{merge(merged, out)} cells taken over.")
            _run(suite, chosen, names, out, where)

    command.__doc__ = {
        "vtab": "Run VTAB-1k, 19 tasks, and print the papers' table beside their numbers.",
        "fgvc": "Run the five fine-grained data sets, and print the papers' table beside their numbers.\n\n"
        "--preprocess imagenet is imagenet-crop here, as the official code has it for these data sets.",
    }[kind]
    return command


vtab = with_config_flags(_command("vtab"), idle=_IDLE)
fgvc = with_config_flags(
    _command("fgvc"), idle={**_IDLE, "source": "with FGVC, whose sets come from one source each"}
)


def _check(kind: Benchmark, directory: str, tasks: Sequence[str]) -> None:
    from e2vpt.benchmarks.suite.check import check_fgvc_sets, check_markdown, check_vtab

    look = check_vtab if kind == "vtab" else check_fgvc_sets
    found = look(directory, tasks, on_task=lambda name: say(f"Reading {name}"))
    print("\n".join(check_markdown(found)))
    if not found.right:
        raise typer.Exit(1)


def _plan(kind: Benchmark, names: Collection[str], protocol: Protocol, methods: Sequence[str]) -> None:
    """Of some tasks, or of all where none is named."""
    from e2vpt.benchmarks.suite.plan import plan, plan_markdown, published_tasks

    tasks = [task for task in published_tasks(kind) if not names or task.name in names]
    found = []
    for method in methods:
        say(f"Timing {method}")
        found.append(plan(tasks, protocol, method))
    print("\n".join(plan_markdown(found)))


def _run(
    suite: Suite, protocol: Protocol, methods: Sequence[str], out: Path, where: Mapping[str, Any]
) -> None:
    from e2vpt.benchmarks.compare.report import RESULT_FILES
    from e2vpt.benchmarks.machine import machine
    from e2vpt.benchmarks.suite.report import write_suite
    from e2vpt.benchmarks.suite.run import all_rows, run_suite

    with reported() as reporting:
        try:
            failed = run_suite(suite, protocol, methods, out, reporting=reporting, **where)
        except KeyboardInterrupt:
            say(f"Interrupted. What is finished is kept in {out}; the same command goes on from there.")
            raise typer.Exit(130) from None
    rows, config = all_rows(suite, protocol, methods, out), protocol.config
    if rows:
        note = f"{protocol.name} protocol, backbone {config.backbone}, epochs {config.train.epochs}"
        print(write_suite(out, suite, rows, machine(), backbone=config.backbone, note=note))
        print(f"report {', '.join(str(out / name) for name in RESULT_FILES)}")
    if failed:
        lines = "\n".join(f"  {task}, {method}: {why}" for (task, method), why in failed.items())
        raise RunError(f"{len(failed)} cells failed; the others are kept in {out}:\n{lines}")


def _known_tasks(kind: Benchmark, names: list[str]) -> list[str]:
    from e2vpt.benchmarks.fgvc.read import FGVC
    from e2vpt.benchmarks.vtab.tasks import VTAB

    whole: Collection[str] = VTAB if kind == "vtab" else FGVC
    unknown = [name for name in names if name not in whole]
    if unknown:
        raise ConfigError(f"tasks: {', '.join(unknown)}; expected some of {', '.join(whole)}.")
    return names


def _share(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal()):
        raise ConfigError(f"shard is {text!r}; expected a number and how many there are, as in 3/20.")
    if not 1 <= int(index) <= int(count):
        raise ConfigError(f"shard is {text}; expected a number from 1 to {count}.")
    return int(index), int(count)
