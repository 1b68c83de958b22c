"""Compare settings of the recipe on validation images: one row of a JSON-lines file for each training.

    python scripts/ideas.py TASK... --weights FILE --table ideas.json --seeds 0,1 --out rows.jsonl

The table names variants: settings by group, as in {"crop": {"data": {"augment": "crop"}}}, with `method`,
and `prune` for two trainings of half the epochs. Test images are never read. Rows that are there already are
not made again, so a killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from e2vpt.config import DataConfig, MethodConfig, PromptConfig, PruneConfig, TrainConfig
from e2vpt.data import Task
from e2vpt.data.load import load_task
from e2vpt.runs.folder import RunConfig
from e2vpt.runs.prepare import Prepared, prepare
from e2vpt.runs.recipe import train_and_prune
from e2vpt.runs.run import train_run

GROUPS = {"prompts": PromptConfig, "options": MethodConfig, "data": DataConfig, "train": TrainConfig}
RECIPE = {"prompts": {"init": "patch", "kv_init": "patch"}}


def main() -> None:
    """Train every variant on every task with every seed."""
    asked = arguments()
    table = json.loads(Path(asked.table).read_text())
    done = {key_of(row) for row in read_rows(asked.out)}
    for source in asked.tasks:
        task = load_task(source, DataConfig())
        like: Prepared | None = None
        for seed in asked.seeds:
            for name in asked.variants or list(table):
                key = (task.name, name, seed, asked.epochs)
                if key in done:
                    continue
                config = config_of(asked, table[name], seed)
                row, like = row_of(task, config, table[name], like)
                write_row(asked.out, dict(zip(("task", "variant", "seed", "epochs"), key, strict=True)) | row)


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
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def config_of(asked: argparse.Namespace, variant: Mapping[str, Any], seed: int) -> RunConfig:
    """The settings of one training; a variant that prunes divides its epochs between two trainings."""
    epochs = asked.epochs // 2 if "prune" in variant else asked.epochs
    shared: dict[str, Any] = {
        "prompts": RECIPE["prompts"],
        "data": {"image_size": asked.image_size},
        "train": {"epochs": epochs, "precision": asked.precision, "seed": seed},
    }
    groups = {name: make(**(shared.get(name, {}) | variant.get(name, {}))) for name, make in GROUPS.items()}
    method = variant.get("method", "e2vpt")
    return RunConfig(backbone=asked.backbone, weights=asked.weights, method=method, **groups)


def row_of(
    task: Task, config: RunConfig, variant: Mapping[str, Any], like: Prepared | None
) -> tuple[dict[str, Any], Prepared]:
    """Train once, or twice with pruning between; figures of validation, and the images to use again."""
    start = time.perf_counter()
    like = prepare(task, config, like)
    with tempfile.TemporaryDirectory() as folder:
        if "prune" in variant:
            prune = PruneConfig(**variant["prune"])
            pruned = train_and_prune(task, config, prune, Path(folder) / "run", like=like)
            history, best = pruned.trained.result.history, pruned.trained.result.best_epoch
            chosen = next(tried for tried in pruned.tried if tried.chosen)
            more = {"stage": chosen.stage, "num_tuned": chosen.num_tuned}
        else:
            trained = train_run(task, config, Path(folder) / "run", like=like)
            history, best = trained.result.history, trained.result.best_epoch
            more = {"num_tuned": sum(p.numel() for p in trained.model.parameters() if p.requires_grad)}
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


def key_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Which training a row is of."""
    return row["task"], row["variant"], row["seed"], row["epochs"]


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
