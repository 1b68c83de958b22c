"""`make gpu`: everything this project wants to know of a GPU, in one command of at most eight minutes.

Stages, each leaving its report in the folder as soon as it is done; a stage that is there is not repeated:
checks   the tests marked `gpu`
speed    `e2vpt bench speed`, and what part of the card's measured matrix peak it reaches
folder   1,000 images to an adapter, and where the time goes
modes    CUDA graphs and torch.compile beside plain execution, and which kernels a training step spends on
compare  methods side by side on real tasks, where a folder of them is given, several at once

Needs PyTorch, timm and this project, no network. `--quick` is the same on tiny settings, for the CPU.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from e2vpt.benchmarks.machine import machine
from e2vpt.benchmarks.speed.clock import take_turns
from e2vpt.benchmarks.speed.contestants import Case, Contestant, make_contestants
from e2vpt.config import TrainConfig
from e2vpt.data.load import load_task
from e2vpt.prompting.folding import folded
from e2vpt.runs.folder import RunConfig
from e2vpt.runs.prepare import prepare
from e2vpt.runs.run import train_into

ROOT = Path(__file__).parents[1]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
METHODS = ("linear", "bias", "lora", "vpt-deep", "full", "e2vpt-no-prune", "e2vpt")
STAGES = ("checks", "speed", "folder", "modes", "compare")


def main() -> int:
    """Run the stages that are asked for and missing; 0 where all went well."""
    asked = _arguments()
    asked.out.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in asked.stages.split(","):
        done = asked.out / f"{name}.done"
        if done.exists():
            continue
        print(f"== {name}", flush=True)
        began = time.monotonic()
        try:
            globals()[f"run_{name}"](asked)
        except (subprocess.CalledProcessError, RuntimeError) as error:
            failed.append(name)
            print(f"-- {name} failed: {error}", flush=True)
            continue
        done.write_text(f"{time.monotonic() - began:.0f} s\n")
        print(f"-- {name}: {done.read_text()}", flush=True)
    return len(failed)


def run_checks(asked: argparse.Namespace) -> None:
    """The tests marked `gpu`."""
    words = [
        "-m",
        "pytest",
        "-q",
        "tests/gpu",
        "-p",
        "no:cacheprovider",
        "-W",
        "default",
        "-n",
        "1" if asked.quick else "6",
    ]
    call(asked, "checks.txt", *words)


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
    train_into(prepared, out, resume=False, on_epoch=lambda _: marks.append(time.monotonic()))
    marks.append(time.monotonic())
    spans = [b - a for a, b in itertools.pairwise(marks)]
    names = ["look at images", "prepare", *(f"epoch {i + 1}" for i in range(epochs)), "end"]
    return dict(zip(names, spans, strict=True))


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


def matrix_peak(side: int) -> float:
    """TFLOP/s of a bf16 product of random square matrices: the median of ten."""
    a, b = (torch.randn(side, side, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    run = {"product": lambda: [a @ b for _ in range(10)]}
    return 10 * 2 * side**3 / take_turns(run, 10, device=DEVICE)["product"].seconds / 1e12  # type: ignore[arg-type]


def modes_of(one: Contestant, *, compiling: bool) -> list[dict[str, Any]]:
    """Seconds of inference and of a step: eager, in a CUDA graph, compiled."""
    rows = [timing("step", "eager", in_mode(one, True).step, one)]
    with folded(in_mode(one, False).model):
        rows.append(timing("inference", "eager", one.infer, one))
    if compiling:
        rows += [timing(mode, "compiled", run, one) for mode, run in compiled(one)]
    if DEVICE == "cuda":
        with folded(in_mode(one, False).model):
            rows.append(timing("inference", "graph", graph(one.infer), one))
        rows.append(timing("step", "graph", graph(capturable_step(one)), one))
    return rows


def in_mode(one: Contestant, training: bool) -> Contestant:
    """The contestant, its model in that mode."""
    one.model.train(training)
    return one


def compiled(one: Contestant) -> list[tuple[str, Callable[[], Any]]]:
    """Inference, and forward and backward of a step, by torch.compile."""
    model = torch.compile(one.model, backend="inductor" if DEVICE == "cuda" else "aot_eager")
    images, labels = one.data

    def logits() -> torch.Tensor:
        with torch.autocast(DEVICE, torch.bfloat16, enabled=one.case.precision == "bf16"):
            return model(images)

    def infer() -> None:
        one.model.eval()
        with torch.no_grad():
            logits()

    def step() -> None:
        one.model.train()
        torch.nn.functional.cross_entropy(logits().float(), labels).backward()
        one.optimizer.step()
        one.optimizer.zero_grad(set_to_none=True)

    return [("inference", infer)] if one.method == "plain" else [("inference", infer), ("step", step)]


def capturable_step(one: Contestant) -> Callable[[], None]:
    """A step whose optimizer keeps its count on the GPU."""
    in_mode(one, True)
    one.optimizer.state.clear()
    for group in one.optimizer.param_groups:
        group["capturable"] = True
    one.optimizer.zero_grad(set_to_none=True)

    def step() -> None:
        one.optimizer.zero_grad(set_to_none=False)
        one.loss().backward()
        one.optimizer.step()

    return step


def timing(mode: str, how: str, run: Callable[[], Any], one: Contestant) -> dict[str, Any]:
    """Median of some rounds of ten calls each."""

    def ten() -> None:
        for _ in range(10 if DEVICE == "cuda" else 1):
            run()

    seconds = take_turns({"run": ten}, 7, device=DEVICE)["run"].seconds / (10 if DEVICE == "cuda" else 1)
    return {"mode": mode, "how": how, "seconds": seconds, "images_per_second": one.case.batch_size / seconds}


def graph(run: Callable[[], Any]) -> Callable[[], None]:
    """The same work captured once and replayed."""
    aside = torch.cuda.Stream()
    with torch.cuda.stream(aside):
        for _ in range(3):
            run()
    torch.cuda.synchronize()
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        run()
    return captured.replay


def kernels(one: Contestant) -> str:
    """What ten training steps spend their time on."""
    one.model.train()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if DEVICE == "cuda" else [])]
    with profile(activities=activities) as found:
        for _ in range(10):
            one.step()
    key = "self_cuda_time_total" if DEVICE == "cuda" else "self_cpu_time_total"
    return str(found.key_averages().table(sort_by=key, row_limit=25, max_name_column_width=90))


def write_images(folder: Path, count: int, side: int) -> None:
    """Ten classes of noisy discs of ten colours, JPEG."""
    import numpy as np
    from PIL import Image, ImageDraw

    random = np.random.default_rng(0)
    for index in range(count):
        label = index % 10
        image = Image.fromarray(random.integers(0, 255, (side, side, 3), dtype=np.uint8))
        x, y = random.integers(0, side // 2, 2).tolist()
        colour = (25 * label, 255 - 25 * label, 128)
        ImageDraw.Draw(image).ellipse((x, y, x + side // 2, y + side // 2), fill=colour)
        path = folder / f"class{label}" / f"{index:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)


def random_vit_b(folder: Path) -> list[str]:
    """A ViT-B/16 with random weights in a file: time does not depend on them."""
    import timm
    from safetensors.torch import save_file

    path = folder / "vit_b.safetensors"
    if not path.exists():
        save_file(timm.create_model("vit_base_patch16_224").state_dict(), path)
    return ["--backbone", "vit_base_patch16_224", "--weights", str(path)]


def call(asked: argparse.Namespace, log: str, *words: str) -> None:
    """Run Python; its output goes to a file of the folder, and its end to the terminal."""
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    (asked.out / log).write_text(done.stdout)
    print(done.stdout[-3000:], flush=True)
    done.check_returncode()


def write(asked: argparse.Namespace, name: str, what: Any) -> None:
    """A file of the folder."""
    (asked.out / name).write_text(json.dumps(what, indent=1) + "\n")
    print(json.dumps(what), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--data", type=Path, help="a folder with tasks/*.tar and weights/*.safetensors")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument(
        "--limit", type=float, default=400, help="seconds after which a comparison is stopped"
    )
    parser.add_argument("--quick", action="store_true", help="tiny settings, to see that it works")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
