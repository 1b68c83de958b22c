"""Compare settings of the recipe on validation images: one row of a JSON-lines file for each training.

    python scripts/ideas.py TASK... --weights FILE --table ideas.json --seeds 0,1 --out rows.jsonl

The table names variants: settings by group, as in {"crop": {"data": {"augment": "crop"}}}, with `method`,
and `prune` for two trainings of half the epochs, or for one of all with {"prune": {"prune_at": 0.5}}. Test
images are never read. Rows that are there already are not made again, so a killed run goes on where it was.
With `--shots` few training images of each class are left, drawn by the seed, and no validation images: the
last epoch is kept, and measured on them afterwards.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from e2vpt.config import DataConfig, MethodConfig, PromptConfig, PruneConfig, TrainConfig
from e2vpt.data import Split, Task, make_loader
from e2vpt.data.randomness import shuffled
from e2vpt.data.sources.load import load_task
from e2vpt.runs.folders.run_config import RunConfig
from e2vpt.runs.prepare import Prepared, prepare
from e2vpt.runs.recipe import train_and_prune
from e2vpt.runs.run import train_run
from e2vpt.training.evaluate import evaluate

GROUPS = {"prompts": PromptConfig, "options": MethodConfig, "data": DataConfig, "train": TrainConfig}
KEY = ("task", "variant", "seed", "epochs", "shots")
RECIPE = {"prompts": {"init": "patch", "kv_init": "patch"}}


def main() -> None:
    """Train every variant on every task with every seed."""
    asked = arguments()
    table = json.loads(Path(asked.table).read_text())
    done = {key_of(row) for row in read_rows(asked.out)}
    for source in asked.tasks:
        whole = load_task(source, DataConfig())
        like: Prepared | None = None
        for seed in asked.seeds:
            task = whole if asked.shots is None else few_images(whole, asked.shots, seed)
            for name in asked.variants or list(table):
                key = (task.name, name, seed, asked.epochs, asked.shots)
                if key in done:
                    continue
                config = config_of(asked, table[name], seed)
                row, like = row_of(
                    task, config, table[name], like, None if asked.shots is None else whole.val
                )
                write_row(asked.out, dict(zip(KEY, key, strict=True)) | row)


def arguments() -> argparse.Namespace:
    """What the command was told."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--table", required=True, help="JSON: variant -> settings by group")
    parser.add_argument("--variants", type=lambda text: text.split(","), default=None)
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0])
    parser.add_argument("--backbone", default="vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    parser.add_argument("--weights", default=None)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=12, help="of all trainings of a variant together")
    parser.add_argument("--shots", type=int, default=None, help="training images of each class")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def config_of(asked: argparse.Namespace, variant: Mapping[str, Any], seed: int) -> RunConfig:
    """The settings of one training; a variant that trains twice to prune divides its epochs between them."""
    trainings = PruneConfig(**variant["prune"]).trainings if "prune" in variant else 1
    epochs = int(asked.epochs / trainings)
    shared: dict[str, Any] = {
        "prompts": RECIPE["prompts"],
        "data": {"image_size": asked.image_size},
        "train": {"epochs": epochs, "precision": asked.precision, "seed": seed},
    }
    groups = {name: make(**(shared.get(name, {}) | variant.get(name, {}))) for name, make in GROUPS.items()}
    method = variant.get("method", "e2vpt")
    return RunConfig(backbone=asked.backbone, weights=asked.weights, method=method, **groups)


def row_of(
    task: Task, config: RunConfig, variant: Mapping[str, Any], like: Prepared | None, held_out: Split | None
) -> tuple[dict[str, Any], Prepared]:
    """Train once, or twice with pruning between; figures of validation, and the images to use again."""
    start = time.perf_counter()
    like = prepare(task, config, like)
    with tempfile.TemporaryDirectory() as folder:
        if "prune" in variant:
            prune = PruneConfig(**variant["prune"])
            pruned = train_and_prune(task, config, prune, Path(folder) / "run", like=like)
            trained, history = pruned.trained, pruned.trained.result.history
            chosen = next(tried for tried in pruned.tried if tried.chosen)
            more = {"stage": chosen.stage, "num_tuned": chosen.num_tuned}
        else:
            trained = train_run(task, config, Path(folder) / "run", like=like)
            history = trained.result.history
            more = {"num_tuned": sum(p.numel() for p in trained.model.parameters() if p.requires_grad)}
    best = trained.result.best_epoch - 1
    if held_out is not None:
        loader = make_loader(held_out, trained.preprocessing, batch_size=64)
        metrics = evaluate(trained.model, loader)
        history[best] |= {"val_accuracy": metrics.accuracy, "val_loss": metrics.loss}
    row = {
        "lr": config.train.peak_lr,
        "best": round(history[best]["val_accuracy"], 4),
        "last": round(history[-1]["val_accuracy"], 4),
        "best_loss": round(history[best]["val_loss"], 4),
        "last_loss": round(history[-1]["val_loss"], 4),
        "train_loss": round(history[-1]["train_loss"], 4),
        "seconds": round(time.perf_counter() - start, 1),
    }
    return row | more, like


def few_images(task: Task, count: int, seed: int) -> Task:
    """The task with so many training images of each class, or all there are, and without others."""
    order = shuffled(range(len(task.train)), "few", seed)
    left = dict.fromkeys(range(len(task.classes)), count)
    chosen = []
    for index in order:
        label = task.train.labels[index]
        if left[label]:
            chosen.append(index)
            left[label] -= 1
    train = Split(
        images=tuple(task.train.images[i] for i in chosen), labels=tuple(task.train.labels[i] for i in chosen)
    )
    return dataclasses.replace(task, train=train, val=None)


def key_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Which training a row is of."""
    return tuple(row.get(name) for name in KEY)


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows that are there already."""
    if path.exists():
        yield from (json.loads(line) for line in path.read_text().splitlines())


def write_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append a row; print it."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
