"""Two processes (gloo) give the same result as one with the same global batch, and choose alike."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.tasks_for_tests import write_task

SCRIPT = """
import sys
import torch
from pathlib import Path
sys.path.insert(0, {tests!r})
from safetensors.torch import save_file
from support.tasks_for_tests import tiny_vit, write_task
from e2vpt import DataConfig, Preprocessing, TrainConfig, fit, load_task, make_loader
from e2vpt.training.checkpoint import trained_state
from e2vpt.training.processes import process_rank

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
settings = dict(class_weights="balanced", label_smoothing=0.1, average=0.9)
config = TrainConfig(epochs=3, lr=0.01, accumulation=parts, **settings)
result = fit(model, train, val, config)
if rank == 0:
    history = torch.tensor([list(row.values()) for row in result.history], dtype=torch.float64)
    save_file(trained_state(model) | {{"history": history}}, out / f"{{world}}.safetensors")
"""

UNEVEN = """
from itertools import product
from torch import nn
from e2vpt import pruning
from e2vpt.data import Split

class Hidden(nn.Module):
    # A head that nobody can know before it runs.
    def __init__(self):
        super().__init__()
        self.inner = tiny_vit(torch.float32)
        self.register_buffer("seen", torch.zeros(1))  # DDP sends buffers round before a forward pass

    def forward(self, images):
        return self.inner(images)

generator = torch.Generator().manual_seed(0)
images, labels = torch.randn(4, 3, 16, 16, generator=generator), torch.tensor([0, 1, 2, 0])
for hidden, *shares in product((False, True), range(3), range(3)):
    if not any(shares):
        continue

    def own(of):
        # This process's images, each a batch of its own; all of them where there is one process.
        first, last = (0, sum(of)) if world == 1 else (sum(of[:rank]), sum(of[:rank + 1]))
        return slice(first, last), range(first, last)

    torch.manual_seed(0)
    model = Hidden() if hidden else tiny_vit(torch.float32)
    here, _ = own(shares)
    _, val_here = own(shares[::-1])
    val = [(images[i:i + 1], labels[i:i + 1]) for i in val_here]
    result = fit(model, [(images[here], labels[here])], val, TrainConfig(epochs=2, lr=0.01))
    if rank == 0:
        values = torch.tensor([list(row.values()) for row in result.history], dtype=torch.float64)
        name = f"{{int(hidden)}}{{shares[0]}}{{shares[1]}}-{{world}}.safetensors"
        save_file({{"history": values}}, out / name)
for count in (1, 2, 3):
    torch.manual_seed(0)
    split = Split(images=task.train.images[:count], labels=task.train.labels[:count])
    loader = make_loader(split, how, batch_size=2, rank=rank, world=world)
    scores = pruning.score(tiny_vit(torch.float32), loader.in_order(), num_segments=4)
    tensors = {{str(i): values.contiguous() for i, values in enumerate(scores.tokens + scores.segments)}}
    save_file(tensors, out / f"scores{{count}}-{{world}}-{{rank}}.safetensors")
"""

# The second process scores and measures the other way round.
DISAGREEING = """
import dataclasses
from pathlib import Path
from safetensors.torch import save_file
from e2vpt import PromptConfig, TrainConfig, load_task
from e2vpt.runs import recipe, scoring, trying
from e2vpt.training.checkpoint import trained_state
from e2vpt.prompting.parts import prompt_layers
from e2vpt.training.processes import leave_processes, process_rank
from e2vpt.runs.folders.run_config import RunConfig

rank, _ = process_rank()
out, sign = Path({out!r}), 1 - 2 * rank
score, evaluate = scoring.score, trying.evaluate

def own_scores(*args, **settings):
    scores = score(*args, **settings)
    tokens, segments = (tuple(sign * x for x in xs) for xs in (scores.tokens, scores.segments))
    return dataclasses.replace(scores, tokens=tokens, segments=segments)

def own_metrics(*args, **settings):
    metrics = evaluate(*args, **settings)
    return dataclasses.replace(metrics, loss=sign * metrics.loss, accuracy=rank + metrics.accuracy)

scoring.score, trying.evaluate = own_scores, own_metrics
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
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes, started once, ran one script and then the other."""
    folder = tmp_path_factory.mktemp("processes")
    # 17 training images: uneven batches, uneven shares; 5 validation images.
    write_task(folder / "data", train=6, val=2, test=1)
    (folder / "data/train/ring/00.png").unlink()
    (folder / "data/val/bars/00.png").unlink()
    script = training_script(folder) + DISAGREEING.format(out=str(folder))
    (folder / "script.py").write_text(script)
    words = [*LAUNCH, str(folder / "script.py")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


def training_script(folder: Path) -> str:
    return (SCRIPT + UNEVEN).format(tests=str(Path(__file__).parents[1]), out=str(folder))


def test_two_processes_equal_one(folder: Path, one_thread: None) -> None:
    """Also where a process has 0, 1 or 2 images to train or to validate with, whatever the other has."""
    exec(training_script(folder), {})
    for hidden, *shares in product("01", "012", "012"):
        if shares != ["0", "0"]:
            name = "".join([hidden, *shares])
            one, two = (load_file(folder / f"{name}-{world}.safetensors")["history"] for world in (1, 2))
            assert torch.allclose(one, two, rtol=1e-4, atol=1e-5), name
    for count in (1, 2, 3):
        one, *two = (load_file(folder / f"scores{count}-{end}.safetensors") for end in ("1-0", "2-0", "2-1"))
        assert all(tensor.equal(other[name]) for other in two for name, tensor in one.items()), count
    one, two = (load_file(folder / f"{world}.safetensors") for world in (1, 2))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        difference = (tensor - two[name]).abs().max() / tensor.abs().max()
        # float32, sums in another order, three epochs of AdamW.
        assert difference < 1e-4, f"{name}: {difference}"


def test_processes_prune_alike(folder: Path) -> None:
    first, second = (load_file(folder / f"rank{rank}.safetensors") for rank in (0, 1))
    assert first.keys() == second.keys()
    assert all(tensor.equal(second[name]) for name, tensor in first.items())
