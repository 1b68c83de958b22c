"""Two processes (gloo) give the same result as one with the same global batch, and choose alike."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

SCRIPT = """
import sys, warnings
import torch
from pathlib import Path
sys.path.insert(0, {tests!r})
from safetensors.torch import save_file
from support.tasks_for_tests import tiny_vit, write_task
from e2vpt import DataConfig, Preprocessing, TrainConfig, fit, load_task, make_loader
from e2vpt.training.checkpoint import trained_state
from e2vpt.training.processes import leave_processes, process_rank

torch.manual_seed(0)
rank, world = process_rank()
out = Path({out!r})
task = load_task(out / "data")
half = (0.5, 0.5, 0.5)
how = Preprocessing(
    image_size=(16, 16), mean=half, std=half, interpolation="bilinear", crop_pct=1.0, crop_mode="squash"
)
parts = 2
share = dict(batch_size=7, rank=rank, world=world)
train = make_loader(task.train, how, shuffle=True, augment="randaugment", seed=3, accumulation=parts, **share)
val = make_loader(task.val, how, **share)
model = tiny_vit(torch.float32)
config = TrainConfig(epochs=3, lr=0.01, accumulation=parts, class_weights="balanced", label_smoothing=0.1)
result = fit(model, train, val, config)
if rank == 0:
    history = torch.tensor([list(row.values()) for row in result.history], dtype=torch.float64)
    save_file(trained_state(model) | {{"history": history}}, out / f"{{world}}.safetensors")
leave_processes()
"""

# The second process scores and measures the other way round.
DISAGREEING = """
import dataclasses
from pathlib import Path
from safetensors.torch import save_file
from e2vpt import PromptConfig, TrainConfig, load_task
from e2vpt.runs import recipe
from e2vpt.training.checkpoint import trained_state
from e2vpt.prompting.parts import prompt_layers
from e2vpt.training.processes import leave_processes, process_rank
from e2vpt.runs.folder import RunConfig

rank, _ = process_rank()
out, sign = Path({out!r}), 1 - 2 * rank
score, evaluate = recipe.score, recipe.evaluate

def own_scores(*args, **settings):
    scores = score(*args, **settings)
    tokens, segments = (tuple(sign * x for x in xs) for xs in (scores.tokens, scores.segments))
    return dataclasses.replace(scores, tokens=tokens, segments=segments)

def own_metrics(*args, **settings):
    metrics = evaluate(*args, **settings)
    return dataclasses.replace(metrics, loss=sign * metrics.loss, accuracy=rank + metrics.accuracy)

recipe.score, recipe.evaluate = own_scores, own_metrics
train, prompts = TrainConfig(epochs=1, batch_size=8), PromptConfig(num_visual=4)
config = RunConfig(backbone="demo", train=train, prompts=prompts)
told = []
reporting = recipe.Reporting(on_stage=told.append)
done = recipe.train_and_prune(load_task(out / "data"), config, None, out / "run", reporting=reporting)
model = done.trained.model
kept = {{f"keep.{{i}}": layer.keep for i, layer in enumerate(prompt_layers(model))}}
save_file(kept | trained_state(model), out / f"rank{{rank}}.safetensors")
assert bool(told) == (rank == 0), told
leave_processes()
"""
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


@pytest.fixture
def script(tmp_path: Path) -> Path:
    from support.tasks_for_tests import write_task

    # 17 training images: uneven batches, uneven shares; 5 validation images.
    write_task(tmp_path / "data", train=6, val=2, test=1)
    (tmp_path / "data/train/ring/00.png").unlink()
    (tmp_path / "data/val/bars/00.png").unlink()
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(tests=str(Path(__file__).parents[1]), out=str(tmp_path)))
    return path


def test_two_processes_equal_one(script: Path) -> None:
    for world in (1, 2):
        done = subprocess.run([*LAUNCH, str(world), str(script)], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    one, two = (load_file(script.parent / f"{world}.safetensors") for world in (1, 2))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        difference = (tensor - two[name]).abs().max() / tensor.abs().max()
        # float32, sums in another order, three epochs of AdamW.
        assert difference < 1e-4, f"{name}: {difference}"


def test_processes_prune_alike(script: Path) -> None:
    script.write_text(DISAGREEING.format(out=str(script.parent)))
    done = subprocess.run([*LAUNCH, "2", str(script)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    first, second = (load_file(script.parent / f"rank{rank}.safetensors") for rank in (0, 1))
    assert first.keys() == second.keys()
    assert all(tensor.equal(second[name]) for name, tensor in first.items())
