"""The demo: a linear head alone against E²VPT, on a question that the class token was never trained for.

Offline: the images are drawn here, the backbone comes with this package (scripts/demo_backbone).
Its class token learned what a drawing shows; the demo asks where the shape is, as dSprites-location does in
VTAB. Images are few: with 50 of each place instead of 10, the head alone comes close (93 % against 97 %).
"""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
import typer
from rich.console import Console
from rich.table import Table

from e2vpt.adapters.files import read_adapter
from e2vpt.backbones.load import load_backbone
from e2vpt.cli.jobs.drawings import place_names, write_drawings
from e2vpt.config import RECIPE_PROMPTS, MethodConfig, TrainConfig
from e2vpt.data import Task, load_task
from e2vpt.runs.folders.folder import ADAPTER, CHECKPOINT
from e2vpt.runs.folders.run_config import RunConfig
from e2vpt.runs.prepare import eval_loader
from e2vpt.runs.progress import percent, reported, say
from e2vpt.runs.run import train_run
from e2vpt.training.evaluate import evaluate

_PER_PLACE = {"train": 10, "val": 5, "test": 50}
_TRAIN = TrainConfig(epochs=40)
_CONFIGS = {
    "linear": RunConfig(backbone="demo", method="linear", train=_TRAIN, adapter_precision="fp16"),
    # Few prompts and no biases, so that the adapter stays about as small as the head.
    "e2vpt": RunConfig(
        backbone="demo",
        prompts=dataclasses.replace(RECIPE_PROMPTS, num_visual=4, num_kv=1),
        options=MethodConfig(beside="none"),
        train=_TRAIN,
        adapter_precision="fp16",
    ),
}
_TITLES = {"linear": "linear head", "e2vpt": "E²VPT"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """One line of the demo's table.

    Attributes:
        accuracy: on test images, 0 to 1.
        num_tuned: parameters that were trained, the head among them.
        num_bytes: of the adapter file.
        seconds: of training in this call; None where it was finished before.
    """

    method: str
    accuracy: float
    num_tuned: int
    num_bytes: int
    seconds: float | None = field(compare=False)


def run_demo(out: Path) -> list[Outcome]:
    """Train both methods below `out` and print the comparison.

    A second call trains nothing again; a call after an interruption continues from the last finished epoch.
    """
    data = write_drawings(out / "data", _PER_PLACE)
    task = load_task(data)
    size = sum(p.numel() for p in load_backbone("demo", num_classes=0).parameters())
    say(
        f"Task: where in the image is the shape? {len(task.classes)} places, "
        f"{len(task.train)} training images, all in {data}.\n"
        f"Backbone: a vision transformer with {size / 1e6:.1f} million parameters, pretrained to tell what a "
        "drawing shows. It stays frozen."
    )
    try:
        with _one_thread():
            outcomes = [_outcome(method, task, data, out / method) for method in _CONFIGS]
    except KeyboardInterrupt:
        say("Interrupted. Run the same command again to continue.")
        raise typer.Exit(130) from None
    _print_table(outcomes)
    _print_next_steps(out, data)
    return outcomes


@contextmanager
def _one_thread() -> Iterator[None]:
    """A second thread costs this small model more than it gives, much more on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _outcome(method: str, task: Task, data: Path, out: Path) -> Outcome:
    config, began = dataclasses.replace(_CONFIGS[method], source=str(data.absolute())), time.monotonic()
    is_done = (out / ADAPTER).exists()
    state = "already trained" if is_done else "continuing" if (out / CHECKPOINT).exists() else "training"
    say(f"{_TITLES[method]}: {state}")
    with reported() as reporting:
        trained = train_run(task, config, out, resume=True, reporting=reporting.bars())
    seconds = None if is_done else time.monotonic() - began
    assert task.test is not None
    metrics = evaluate(trained.model, eval_loader(task.test, trained.preprocessing, config))
    info = read_adapter(trained.adapter)
    return Outcome(
        method=method,
        accuracy=metrics.accuracy,
        num_tuned=info.num_tuned + info.num_head,
        num_bytes=info.bytes,
        seconds=seconds,
    )


def _print_table(outcomes: list[Outcome]) -> None:
    table = Table()
    for column in ("method", "test accuracy", "tuned parameters", "adapter bytes", "seconds"):
        table.add_column(column, justify="left" if column == "method" else "right", no_wrap=True)
    for o in outcomes:
        seconds = "done before" if o.seconds is None else f"{o.seconds:.0f}"
        table.add_row(_TITLES[o.method], percent(o.accuracy), f"{o.num_tuned:,}", f"{o.num_bytes:,}", seconds)
    Console(highlight=False).print(table)


def _print_next_steps(out: Path, data: Path) -> None:
    image = data / "test" / place_names()[6] / "000.png"
    backbone = "vit_base_patch16_224.augreg_in21k"
    steps: dict[str, list[str | Path]] = {
        "Ask the adapter about an image it has not seen:": ["predict", out / "e2vpt", image, "--topk", "3"],
        "Measure it on all test images:": ["eval", out / "e2vpt", data],
        "See which pictures each of the two gets wrong:": ["report", out / "e2vpt", out / "linear"],
        "Train on your own images, one folder per class (downloads a larger backbone):": [
            *("train", "path/to/your/images", "--backbone", backbone),
        ],
    }
    print("\nNext:")
    for what, words in steps.items():
        print(f"\n  {what}\n    {shlex.join(['e2vpt', *map(str, words)])}")
