"""Trainings on a GPU: precisions, loaders, interruption, two processes on one card."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.tasks_for_tests import batches, tiny_vit, write_task
from torch import nn

import e2vpt
from e2vpt import TrainConfig, fit
from e2vpt.errors import ConfigError
from e2vpt.runs.folders.folder import ADAPTER
from e2vpt.runs.folders.run_config import RunConfig
from e2vpt.runs.prepare import prepare
from e2vpt.runs.reporting import Reporting
from e2vpt.runs.run import train_run
from e2vpt.training.checkpoint import trained_state
from e2vpt.training.epochs import Epochs
from e2vpt.training.replay import Replayed

pytestmark = pytest.mark.gpu
STEPS = [16, 16, 16, 16]


class Interrupted(Exception):
    """Where a run is stopped."""


def config(**values: object) -> TrainConfig:
    return TrainConfig(**({"epochs": 6, "lr": 0.02} | values))  # type: ignore[arg-type]


def trained(model: nn.Module, **values: object) -> tuple[nn.Module, list[float]]:
    own = copy.deepcopy(model)
    result = fit(own, batches(STEPS, torch.float32), batches([32], torch.float32, 1), config(**values))
    return own, [row["train_loss"] for row in result.history]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_precision_learns(device: torch.device, precision: str) -> None:
    if precision == "fp16" and device.type == "cpu":
        with pytest.raises(ConfigError, match="needs a GPU"):
            trained(tiny_vit(torch.float32), precision=precision)
        return
    model, losses = trained(tiny_vit(torch.float32), precision=precision)
    assert losses[-1] < 0.8 * losses[0]
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert next(model.parameters()).device.type == device.type


def test_checkpointing_changes_nothing(device: torch.device) -> None:
    start = tiny_vit(torch.float32)
    plain, recomputed = trained(start)[0], trained(start, grad_checkpointing=True)[0]
    for name, tensor in trained_state(plain).items():
        torch.testing.assert_close(tensor, trained_state(recomputed)[name], rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA's own check, which the CPU has not")
def test_a_step_does_not_wait_for_the_gpu() -> None:
    data = [(x.cuda(), y.cuda()) for x, y in batches(STEPS, torch.float32)]
    watched: list[int] = []

    class Watched(list):  # type: ignore[type-arg]
        """The first epoch may wait: it captures the step."""

        def __iter__(self):  # type: ignore[no-untyped-def]
            torch.cuda.set_sync_debug_mode("error" if watched else "default")
            watched.append(len(self))
            yield from list.__iter__(self)
            torch.cuda.set_sync_debug_mode("default")

    try:
        fit(tiny_vit(torch.float32), Watched(data), None, config(epochs=3))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(watched) == 3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_captured_step_is_the_step(
    device: torch.device, precision: str, accumulation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = tiny_vit(torch.float32, dropout=0.1)
    values = {"precision": precision, "accumulation": accumulation, "average": 0.9, "mixup": 0.3}
    data, captured = [*batches(STEPS, torch.float32), *batches([5, 5], torch.float32, 9)], []
    real = Replayed._captured
    monkeypatch.setattr(Replayed, "_captured", lambda self: captured.append(real(self)) or captured[-1])
    found, expected = copy.deepcopy(start), copy.deepcopy(start)
    fit(found, data, None, config(**values))
    assert [graph is not None for graph in captured] == [True] * (device.type == "cuda")
    monkeypatch.setattr(Epochs, "_can_replay", lambda self: False)
    fit(expected, data, None, config(**values))
    for name, tensor in trained_state(expected).items():
        torch.testing.assert_close(trained_state(found)[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


def test_what_cannot_be_captured_is_computed_as_ever(device: torch.device) -> None:
    class Asking(nn.Module):
        """Looks at a value on the host: no graph can hold that."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = tiny_vit(torch.float32)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x) * (1.0 if float(x.sum()) > 0 else 1.5)

    _, losses = trained(Asking(), epochs=8)
    assert losses[-1] < losses[0]


def run_config(**train: object) -> RunConfig:
    settings = {"epochs": 4, "batch_size": 8} | train
    return RunConfig(
        backbone="demo",
        train=TrainConfig(**settings),  # type: ignore[arg-type]
        prompts=e2vpt.PromptConfig(num_visual=4),
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_interrupted_run_ends_in_the_same_bytes(tmp_path: Path, precision: str) -> None:
    task = e2vpt.load_task(write_task(tmp_path / "data"))
    settings = run_config(precision=precision)
    train_run(task, settings, tmp_path / "whole")

    def stop(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        train_run(task, settings, tmp_path / "parts", reporting=Reporting(on_epoch=stop))
    train_run(task, settings, tmp_path / "parts", resume=True)
    whole, parts = (load_file(tmp_path / name / ADAPTER) for name in ("whole", "parts"))
    assert {n: float((t - parts[n]).abs().max()) for n, t in whole.items() if not t.equal(parts[n])} == {}


def test_images_stay_on_the_device(tmp_path: Path, device: torch.device) -> None:
    task = e2vpt.load_task(write_task(tmp_path / "data"))
    prepared = prepare(task, run_config())
    prepared.train.set_epoch(3)
    first = [(x.cpu(), y) for x, y in prepared.train]
    assert {x.device.type for x, _ in prepared.train} == {device.type}
    from e2vpt.data import make_loader

    plain = make_loader(task.train, prepared.preprocessing, batch_size=8, shuffle=True)
    plain.set_epoch(3)
    for (x, y), (other, label) in zip(first, plain, strict=True):
        assert torch.equal(x, other)
        assert torch.equal(y, label)


SCRIPT = """
import sys, torch
sys.path.insert(0, {tests!r})
from safetensors.torch import save_file
from support.tasks_for_tests import batches, tiny_vit
from e2vpt import TrainConfig, fit
from e2vpt.training.checkpoint import trained_state
from e2vpt.training.processes import leave_processes, process_rank

torch.manual_seed(0)
rank, world = process_rank()
data = [(x[rank::world], y[rank::world]) for x, y in batches([16, 16], torch.float32)]
model = tiny_vit(torch.float32)
fit(model, data, None, TrainConfig(epochs=3, lr=0.01))
if rank == 0:
    save_file(trained_state(model), {out!r} + f"/{{world}}.safetensors")
leave_processes()
"""


def test_two_processes_on_one_gpu(tmp_path: Path) -> None:
    text = SCRIPT.format(tests=str(Path(__file__).parents[1]), out=str(tmp_path))
    exec(text, {})  # one process: this one
    script = tmp_path / "script.py"
    script.write_text(text)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*launch, str(script)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    one, two = (load_file(tmp_path / f"{world}.safetensors") for world in (1, 2))
    assert one.keys() == two.keys() and one
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], rtol=1e-3, atol=1e-4, msg=name)
