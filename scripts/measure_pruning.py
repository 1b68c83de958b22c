"""Pruned against unpruned prompts on four tasks: one row a task and seed, appended as they come.

python scripts/measure_pruning.py TASKS WEIGHTS TABLE [FLAG...]

TASKS is a folder of .tar files, WEIGHTS a ViT-Tiny, TABLE a CSV; rows that are there already are not done
again. FLAGs go to `e2vpt train`. Test images are read once for each of the two adapters.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

BACKBONE = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
TASKS = ("gtsrb43", "dtd10", "clothing10", "trashnet6")
SEEDS = (0, 1, 2)
COLUMNS = ["task", "seed", "unpruned", "pruned", "kept", "unpruned_bytes", "pruned_bytes", "epochs"]


def command(*words: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "e2vpt", *map(str, words)], check=True, text=True, stdout=subprocess.PIPE
    )
    return done.stdout


def accuracy(adapter: Path, data: Path, weights: Path) -> float:
    return float(json.loads(command("eval", adapter, data, "--weights", weights, "--json"))["accuracy"])


def measure(task: str, seed: int, tasks: Path, weights: Path, flags: list[str]) -> dict[str, object]:
    data, run = tasks / f"{task}.tar", Path("runs/pruning") / f"{task}-{seed}"
    command(
        *("train", data, "--backbone", BACKBONE, "--weights", weights),
        *("--seed", str(seed), "--tolerance", "1", "--out", run, "--resume", *flags),
    )
    unpruned, pruned = run / "unpruned.safetensors", run / "adapter.safetensors"
    with (run / "prune/table.csv").open() as file:
        epochs = sum(int(row["epochs"]) for row in csv.DictReader(file))
    return {
        "task": task,
        "seed": seed,
        "unpruned": accuracy(unpruned, data, weights),
        "pruned": accuracy(pruned, data, weights),
        "kept": json.loads(command("info", pruned, "--json"))["visual_kept"],
        "unpruned_bytes": unpruned.stat().st_size,
        "pruned_bytes": pruned.stat().st_size,
        "epochs": epochs,
    }


def main(tasks: Path, weights: Path, table: Path, flags: list[str]) -> None:
    table.parent.mkdir(parents=True, exist_ok=True)
    done = set()
    if table.exists():
        with table.open() as file:
            done = {(row["task"], int(row["seed"])) for row in csv.DictReader(file)}
    for seed in SEEDS:
        for task in TASKS:
            if (task, seed) in done:
                continue
            row = measure(task, seed, tasks, weights, flags)
            is_new = not table.exists()
            with table.open("a", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                if is_new:
                    writer.writeheader()
                writer.writerow(row)


if __name__ == "__main__":
    first, second, third, *rest = sys.argv[1:]
    main(Path(first), Path(second), Path(third), rest)
