from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from scripts.dev_tasks import __doc__ as usage
from scripts.dev_tasks import drawn, photographs
from scripts.dev_tasks.repositories import opened
from scripts.dev_tasks.splitting import choose
from scripts.dev_tasks.writing import write

SPLITS = {"train": 800, "val": 200, "test": 1000}  # of the drawn tasks

Row = tuple[str, str, Image.Image, str]


def photographed(task: photographs.Photographed, mirror: Path) -> Iterator[Row]:
    directory = opened(mirror, task.repository)
    yield from choose(task, task.pools(directory, task.repository.commit))


def drawings(task: drawn.Drawn) -> Iterator[Row]:
    for split, number in SPLITS.items():
        for name, image in drawn.images(task, split, number):
            yield split, name, image, "drawn"


def main(out: Path, mirror: Path | None, only: list[str]) -> None:
    tasks: list[photographs.Photographed | drawn.Drawn] = [*photographs.TASKS, *drawn.TASKS]
    for task in tasks:
        folder = out / task.name
        if (only and task.name not in only) or folder.exists():
            continue
        if isinstance(task, drawn.Drawn):
            rows = drawings(task)
        elif mirror is not None:
            rows = photographed(task, mirror)
        else:
            print(f"{task.name}: left out, its repository needs --mirror")
            continue
        partial = out / f".{task.name}"  # a task stands under its name when it is whole
        shutil.rmtree(partial, ignore_errors=True)
        write(partial, rows, task.suffix)
        partial.rename(folder)
        print(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        "python -m scripts.dev_tasks", description=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--mirror", type=Path)
    parser.add_argument("--tasks", default="", help="names, with commas between; default: all")
    given = parser.parse_args()
    main(given.out, given.mirror, [name for name in given.tasks.split(",") if name])
