"""Eager execution, CUDA graphs and torch.compile, side by side; the kernels of a training step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from e2vpt.benchmarks.speed.clock import take_turns
from e2vpt.benchmarks.speed.contestants import Contestant
from e2vpt.prompting.folding import folded

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


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
