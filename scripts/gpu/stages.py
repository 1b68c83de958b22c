"""The stages; each writes its report into the folder `out`."""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from e2vpt.benchmarks.machine import machine
from e2vpt.benchmarks.speed.contestants import Case, make_contestants
from e2vpt.config import TrainConfig
from e2vpt.data.sources.load import load_task
from e2vpt.runs.folders.run_config import RunConfig
from e2vpt.runs.prepare import prepare
from e2vpt.runs.reporting import Reporting
from e2vpt.runs.run import train_into
from scripts.gpu.material import ROOT, call, random_vit_b, write, write_images
from scripts.gpu.modes import DEVICE, kernels, matrix_peak, modes_of

METHODS = ("linear", "bias", "lora", "vpt-deep", "full", "e2vpt-no-prune", "e2vpt")


def run_checks(asked: argparse.Namespace) -> None:
    """The tests marked `gpu`."""
    jobs = "1" if asked.quick else "6"
    words = ["-m", "pytest", "-q", "tests/gpu", "-p", "no:cacheprovider", "-W", "default", "-n"]
    call(asked, "checks.txt", *words, jobs)


def run_speed(asked: argparse.Namespace) -> None:
    """Times beside the plain forward pass; images a second; share of the matrix peak."""
    peak = matrix_peak(256 if asked.quick else 8192)
    write(asked, "peak.json", {"tflops": peak, **machine(DEVICE)})
    methods = "linear,full,bias,lora,carried,carried-fused,e2vpt,e2vpt-bias"
    settings = ["--prompts", "10,50,200", "--batch-size", "32,128", "--precision", "bf16", "--rounds", "9"]
    if asked.quick:
        settings = ["--quick"]
    words = ["-m", "e2vpt", "bench", "speed", *settings, "--methods", methods]
    call(asked, "speed.txt", *words, "--out", str(asked.out / "speed"))


def run_folder(asked: argparse.Namespace) -> None:
    """A folder of images to an adapter, as a person would: whole process, then epoch by epoch."""
    size, count, epochs = (32, 40, 2) if asked.quick else (224, 1000, 100)
    data = asked.out / "work" / "images"
    write_images(data / "train", count, size)
    write_images(data / "val", count // 10, size)
    backbone = ["--backbone", "demo"] if asked.quick else random_vit_b(asked.out / "work")
    settings = [*backbone, "--epochs", str(epochs), "--no-prune"]
    settings += ["--precision", "bf16"] if DEVICE == "cuda" else []
    began = time.monotonic()
    call(
        asked, "train.txt", "-m", "e2vpt", "train", str(data), *settings, "--out", str(asked.out / "work/run")
    )
    write(asked, "folder.json", {"seconds": time.monotonic() - began, "images": count, "epochs": epochs})
    write(asked, "phases.json", phases(data, backbone, 2 if asked.quick else 10, asked.out / "work/phases"))


def phases(data: Path, backbone: list[str], epochs: int, out: Path) -> dict[str, float]:
    """Seconds of each part of a training in this process: no start of Python, no imports."""
    task, marks = None, [time.monotonic()]
    task = load_task(data)
    marks.append(time.monotonic())
    train = TrainConfig(epochs=epochs, precision="bf16" if DEVICE == "cuda" else "fp32")
    weights = backbone[3] if len(backbone) > 2 else None
    config = RunConfig(backbone=backbone[1], weights=weights, train=train)
    prepared = prepare(task, config)
    marks.append(time.monotonic())
    reporting = Reporting(on_epoch=lambda _: marks.append(time.monotonic()))
    train_into(prepared, out, resume=False, reporting=reporting)
    marks.append(time.monotonic())
    spans = [b - a for a, b in itertools.pairwise(marks)]
    names = ["look at images", "prepare", *(f"epoch {i + 1}" for i in range(epochs)), "end"]
    return dict(zip(names, spans, strict=True))


def run_modes(asked: argparse.Namespace) -> None:
    """Eager, CUDA graphs and torch.compile; the kernels of a training step."""
    name, sizes = ("test_vit", (2,)) if asked.quick else ("vit_base_patch16_224", (1, 32))
    rows = []
    for size in sizes:
        case = Case(
            backbone=name, precision="bf16" if DEVICE == "cuda" else "fp32", batch_size=size, device=DEVICE
        )
        made = make_contestants(case, ("e2vpt-bias",), (10,), 5)
        for one in made:
            found = modes_of(one, compiling=size == sizes[-1])
            rows += [{"batch_size": size, "method": one.method} | row for row in found]
            write(asked, "modes.json", rows)
        (asked.out / f"kernels-{size}.txt").write_text(kernels(made[-1]))


def run_compare(asked: argparse.Namespace) -> None:
    """Each method's comparison in a process of its own, all on one GPU."""
    if asked.data is None:
        print("no --data: nothing to compare")
        return
    tasks = sorted(map(str, (asked.data / "tasks").glob("*.tar")))
    weights = next((asked.data / "weights").glob("*.safetensors"))
    settings = ["--backbone", weights.stem, "--weights", str(weights), "--seeds", str(asked.seeds)]
    settings += ["--tune-on", Path(tasks[0]).stem, "--epochs", "1" if asked.quick else str(asked.epochs)]
    settings += ["--image-size", "64"] if asked.quick else ["--precision", "bf16"]
    running, environment = [], os.environ | {"OMP_NUM_THREADS": "2"}
    for methods in METHODS[: 1 if asked.quick else None]:
        out = asked.out / "work" / f"compare-{methods}"
        words = ["-m", "e2vpt", "compare", *tasks, *settings, "--methods", methods, "--out", str(out)]
        if (out / "config.json").exists():
            words.append("--resume")
        log = (asked.out / f"compare-{methods}.txt").open("a")
        running.append(
            subprocess.Popen([sys.executable, *words], cwd=ROOT, env=environment, stdout=log, stderr=log)
        )
    until = time.monotonic() + asked.limit
    while time.monotonic() < until and any(process.poll() is None for process in running):
        time.sleep(1)
    for process in running:
        process.terminate()
    codes = [process.wait() for process in running]
    found = (asked.out / "work").glob("compare-*/trials.jsonl")
    (asked.out / "trials.jsonl").write_text("".join(path.read_text() for path in sorted(found)))
    if any(codes):
        raise RuntimeError(f"exit codes {codes}")


STAGES: dict[str, Callable[[argparse.Namespace], None]] = {
    "checks": run_checks,
    "speed": run_speed,
    "folder": run_folder,
    "modes": run_modes,
    "compare": run_compare,
}
