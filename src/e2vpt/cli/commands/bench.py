"""The commands that measure: bench speed; VTAB-1k and FGVC stand beside it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from e2vpt.benchmarks.speed.names import COMPARED, MODES, SpeedMethod
from e2vpt.cli.commands.suite import fgvc, vtab
from e2vpt.cli.options import note_slow, words
from e2vpt.errors import ConfigError, RunError
from e2vpt.files.atomic import make_folder
from e2vpt.runs.progress import countdown, say

bench_app = typer.Typer(no_args_is_help=True, help="Measure speed and memory; every command leaves a report.")


@bench_app.command()
def speed(
    backbones: Annotated[
        str, typer.Option("--backbone", help="timm names, separated by commas.")
    ] = "vit_base_patch16_224",
    precision: Annotated[str, typer.Option(help="fp32, bf16, or both separated by a comma.")] = "fp32,bf16",
    batch_size: Annotated[str, typer.Option(help="Images at a time, as in 1,8,32.")] = "8",
    image_size: Annotated[
        str, typer.Option(help="Sides in pixels, as in 224,384; the backbone's own if empty.")
    ] = "",
    blocks: Annotated[
        str, typer.Option(help="Numbers of blocks, as in 6,12 (ViT); the backbone's own if empty.")
    ] = "",
    prompts: Annotated[str, typer.Option(help="Numbers of visual prompts.")] = "5,10,50,100,200",
    num_kv: Annotated[int, typer.Option(min=0, help="Key-value prompts beside them.")] = 5,
    methods: Annotated[str, typer.Option(help="What to measure beside the plain forward pass.")] = ",".join(
        COMPARED
    ),
    modes: Annotated[str, typer.Option(help="inference, step (training), or both.")] = ",".join(MODES),
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is timed.")] = 5,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; cuda where there is one.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the CPU.")] = None,
    quick: Annotated[bool, typer.Option(help="One round of a tiny backbone, to see that it works.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of the report; goes on with what is there.")] = Path(
        "runs/bench-speed"
    ),
) -> None:
    """Time, FLOPs and memory of ours, LoRA, full fine-tuning and the official form, in turns."""
    import torch

    from e2vpt.backbones.placing import default_device
    from e2vpt.benchmarks.machine import machine
    from e2vpt.benchmarks.speed.contestants import Case
    from e2vpt.benchmarks.speed.measure import SpeedConfig, measure_speed
    from e2vpt.benchmarks.speed.report import write_report

    if threads is not None:
        torch.set_num_threads(threads)
    device = device or default_device()
    if quick:
        backbones, precision, batch_size, prompts, rounds = "test_vit", "fp32", "2", "5", 1
    for kind in words(precision):
        note_slow(kind, on_cpu=device == "cpu")
    own: Sequence[None] = (None,)
    product = itertools.product(
        words(backbones),
        _numbers("image_size", image_size) or own,
        _numbers("blocks", blocks) or own,
        words(precision),
        _numbers("batch_size", batch_size),
    )
    cases = [
        Case(
            backbone=name,
            precision=cast(Any, kind),
            batch_size=size,
            image_size=side,
            depth=depth,
            device=device,
        )
        for name, side, depth, kind, size in product
    ]
    config = SpeedConfig(
        cases=cases,
        methods=cast(list[SpeedMethod], words(methods)),
        num_visual=_numbers("prompts", prompts),
        num_kv=num_kv,
        modes=cast(Any, words(modes)),
        rounds=rounds,
    )
    with countdown("Measuring") as update:
        rows = measure_speed(config, out, on_stage=say, on_call=update)
    print(write_report(out, rows, machine(device)))
    print(f"report {out / 'speed.md'}, {out / 'speed.csv'}")


@bench_app.command()
def tasks(
    backbone: Annotated[str, typer.Option(help="A timm name.")] = "vit_base_patch16_224",
    batch_size: Annotated[int, typer.Option(min=1, help="Images, each of its own task.")] = 16,
    loaded: Annotated[int, typer.Option(min=1, help="Tasks on the device in one of the models.")] = 1000,
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is timed.")] = 5,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; cuda where there is one.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the CPU.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("runs/bench-tasks"),
) -> None:
    """Time of a batch in which every image has its own task, beside one task, LoRA by row, and no batch."""
    import torch

    from e2vpt.backbones.placing import default_device
    from e2vpt.benchmarks.machine import machine
    from e2vpt.benchmarks.speed.contestants import Case
    from e2vpt.benchmarks.speed.tasks import measure_tasks, write_task_report

    if threads is not None:
        torch.set_num_threads(threads)
    device = device or default_device()
    case = Case(backbone=backbone, batch_size=batch_size, device=device)
    make_folder(out)
    with countdown("Measuring") as update:
        rows = measure_tasks(case, num_loaded=loaded, rounds=rounds, on_stage=say, on_call=update)
    print(write_task_report(out, case, rows, machine(device)))
    print(f"report {out / 'tasks.md'}, {out / 'tasks.csv'}")


@bench_app.command("serve")
def serve_load(
    url: Annotated[
        str | None,
        typer.Option(help="A running server, http://HOST:PORT; one of our own is started without."),
    ] = None,
    loaded: Annotated[int, typer.Option(min=1, help="Tasks of our own server, on the demo backbone.")] = 50,
    rates: Annotated[str, typer.Option(help="Requests a second, one after the other.")] = "50,100,200,400",
    seconds: Annotated[float, typer.Option(help="How long each rate lasts.")] = 20.0,
    connections: Annotated[int, typer.Option(min=1, help="Connections open at a time.")] = 64,
    image_side: Annotated[int, typer.Option(min=8, help="Side of the images that are sent, in pixels.")] = 64,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("runs/bench-serve"),
) -> None:
    """Put load on a server at given rates: latency, throughput, batches, errors. E2VPT_TOKEN is its token."""
    from e2vpt.benchmarks.load.generator import Load, generate
    from e2vpt.benchmarks.load.report import load_row, write_load_report
    from e2vpt.benchmarks.load.server import address, noise_images, own_server, task_names
    from e2vpt.benchmarks.machine import machine

    asked = _numbers("rates", rates)
    if not asked:
        raise ConfigError("rates is empty; expected whole numbers separated by commas.")
    make_folder(out)
    token = os.environ.get("E2VPT_TOKEN", "")
    with nullcontext(url) if url is not None else own_server(loaded) as server:
        host, port = address(server)
        names = task_names(server, token)
        loads = [
            Load(
                host=host,
                port=port,
                tasks=names,
                images=noise_images(image_side),
                rate=rate,
                seconds=seconds,
                connections=connections,
                token=token,
            )
            for rate in asked
        ]
        rows = []
        for load in loads:
            say(f"{load.rate:g} requests a second for {seconds:g} seconds, {len(names)} tasks")
            try:
                rows.append(load_row(load, generate(load)))
            except RunError as error:
                kept = f" The rates before are in {out}." if rows else ""
                raise RunError(f"At {load.rate:g} requests a second: {error}{kept}") from error
            # Each time: a server may go away at the next rate.
            report = write_load_report(out, loads[0], rows, machine())
    print(report)
    print(f"report {out / 'serve.md'}, {out / 'serve.csv'}")


def _numbers(name: str, text: str) -> list[int]:
    try:
        return [int(word) for word in words(text)]
    except ValueError:
        raise ConfigError(f"{name} is {text!r}; expected whole numbers separated by commas.") from None


bench_app.command("vtab")(vtab)
bench_app.command("fgvc")(fgvc)
