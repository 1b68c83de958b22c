"""The demo: a head alone against E²VPT, on real handwritten digits and a backbone that never saw one.

Offline: the digits come with scikit-learn, the backbone with this package (scripts/pretrain_demo_backbone.py
trained it on procedural drawings).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from e2vpt.adapters.files import read_adapter
from e2vpt.backbones.load import load_backbone
from e2vpt.config import TrainConfig
from e2vpt.data import Task, load_task
from e2vpt.errors import MissingExtra
from e2vpt.files.atomic import write_atomic
from e2vpt.runs.folder import RunConfig
from e2vpt.runs.prepare import eval_loader
from e2vpt.runs.progress import console, training
from e2vpt.runs.run import train_run
from e2vpt.training.evaluate import evaluate

_SHARES = {"train": 1000, "val": 200, "test": 597}
_CONFIGS = {
    "linear": RunConfig(backbone="demo", method="linear", train=TrainConfig(epochs=15, lr=0.02)),
    "e2vpt": RunConfig(backbone="demo", train=TrainConfig(epochs=15, batch_size=50)),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """One line of the demo's table: parameters, file size in bytes, test accuracy 0 to 1."""

    method: str
    num_tuned: int
    num_head: int
    num_bytes: int
    accuracy: float


def run_demo(out: Path) -> list[Outcome]:
    """Train both methods below `out` and print the comparison; a second call shows the same results."""
    digits = write_digits(out / "digits")
    task = load_task(digits)
    size = sum(p.numel() for p in load_backbone("demo", num_classes=0).parameters())
    console.print(
        f"One frozen backbone of {size / 1e6:.1f} million parameters, trained on drawings. "
        f"A new task: handwritten digits.\n"
        f"{len(task.train)} images to train on, two ways: a linear head alone, and E²VPT."
    )
    outcomes = [_outcome(method, task, out / method) for method in _CONFIGS]
    _print_table(outcomes)
    example = sorted((digits / "test" / "7").iterdir())[0]
    print(f"\nUse the adapter:\n  e2vpt predict {out / 'e2vpt'} {example} --topk 3")
    return outcomes


def write_digits(folder: Path) -> Path:
    """scikit-learn's 1,797 digits, 8 x 8 grey, as PNG files in class folders of train, val and test.

    Raises:
        MissingExtra: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtra("The demo's digits come with scikit-learn: pip install 'e2vpt[demo]'") from error
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    splits = np.repeat(list(_SHARES), list(_SHARES.values()))
    for index, split in zip(order, splits, strict=True):
        path = folder / str(split) / str(data.target[index]) / f"{index:04d}.png"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, _png(data.images[index]))
    return folder


def _png(image: np.ndarray) -> bytes:
    """A digit with values 0 to 16 as a PNG, dark on light as on paper."""
    buffer = io.BytesIO()
    Image.fromarray(np.uint8(255 - image * 255 / 16)).save(buffer, format="PNG")
    return buffer.getvalue()


def _outcome(method: str, task: Task, out: Path) -> Outcome:
    config = _CONFIGS[method]
    console.print(f"\n[bold]{method}[/]")
    with training() as (on_step, on_epoch):
        trained = train_run(task, config, out, resume=True, on_step=on_step, on_epoch=on_epoch)
    assert task.test is not None
    metrics = evaluate(trained.model, eval_loader(task.test, trained.preprocessing, config))
    info = read_adapter(trained.adapter)
    return Outcome(
        method=method,
        num_tuned=info.num_tuned,
        num_head=info.num_head,
        num_bytes=info.bytes,
        accuracy=metrics.accuracy,
    )


def _print_table(outcomes: list[Outcome]) -> None:
    table = Table(title="Handwritten digits, test images")
    for column in ("method", "tuned parameters", "head parameters", "adapter bytes", "test accuracy"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for o in outcomes:
        counts = (f"{number:,}" for number in (o.num_tuned, o.num_head, o.num_bytes))
        table.add_row(o.method, *counts, f"{o.accuracy:.1%}")
    Console(highlight=False).print(table)


def demo_command(
    out: Annotated[Path, typer.Option(help="Folder for the demo's runs and images.")] = Path("runs/demo"),
) -> None:
    """See a linear head and E²VPT on a small task, offline, in a minute."""
    run_demo(out)
