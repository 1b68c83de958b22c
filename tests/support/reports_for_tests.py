"""A pruned run whose class and file names are markup."""

from __future__ import annotations

import shutil
from pathlib import Path

from support.tasks_for_tests import write_task

import e2vpt

HOSTILE = "<img src=x onerror=window.hacked=1>"


def hostile_run(folder: Path) -> Path:
    """A finished, pruned run in `folder`/run, of images in `folder`/data."""
    write_task(folder / "data", train=6, val=4, test=5)
    for split in ("train", "val", "test"):
        (folder / "data" / split / "ring").rename(folder / "data" / split / HOSTILE)
        for image in sorted((folder / "data" / split / "disc").iterdir())[:2]:
            image.rename(image.with_name(f"{HOSTILE}{image.name}"))
    shutil.copy(folder / "data/train/bars/00.png", folder / "data/val/disc/mislabelled.png")
    settings = {"num_visual": 4, "num_kv": 1, "keep_tokens": (0.5,), "keep_segments": (0.5,)}
    e2vpt.train(
        folder / "data",
        "demo",
        folder / "run",
        verbose=False,
        epochs=2,
        batch_size=9,
        lr=0.01,
        init="uniform",
        **settings,
    )
    return folder / "run"
