"""Kill commands at random moments, let them go on, and compare their folders with those of whole runs.

python scripts/kills.py [--starts 40] [--seed 0] [--only NAME...]

Each start of a command is killed (SIGKILL) at a moment drawn over its whole duration: one moment in each of
as many equal parts as the command has starts. Every third `--resume` is killed too, at any moment. A command
is a fork of this process, which has imported everything: kills fall where work is done and files are written.
In the end every file of the folder, logs and locks too, must be there with the same bytes as in a run that
nobody killed; of a search's study.db, which holds times, finished trials are compared.

Prints a JSON object a start; exits with 1 if any folder differs.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.killing import differences
from support.tasks_for_tests import write_task

from e2vpt.cli import app

FORK = multiprocessing.get_context("fork")
SAID = "said.txt"
NOTHING_YET = "holds no run to go on with"
"""What `train --resume` says where the kill came before the run had begun."""
_TRAIN = "train shapes --backbone demo --epochs 4 --batch-size 6 --seed 3 --augment crop"
_SEARCH = "search shapes --backbone demo --epochs 2 --batch-size 9 --trials 3 --visual-choices 2,4"


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A command: its words, how it goes on after a kill, and what makes the folder that it begins with.

    "OUT" stands for the folder.
    """

    begin: str
    resume: str
    prepare: str | None = None


SUBJECTS = {
    "train": Subject(
        begin=f"{_TRAIN} --keep-tokens 0.5 --finalists 2 --keep-segments 1,0.5 --tolerance 1 --out OUT",
        resume="train --resume --out OUT",
    ),
    "train --no-prune": Subject(begin=f"{_TRAIN} --no-prune --out OUT", resume="train --resume --out OUT"),
    "prune": Subject(
        begin="prune OUT --keep-tokens 0.5",
        resume="prune OUT --keep-tokens 0.5",
        prepare=f"{_TRAIN} --no-prune --out OUT",
    ),
    "search": Subject(begin=f"{_SEARCH} --out OUT", resume=f"{_SEARCH} --resume --out OUT"),
}


def run(words: str, out: Path, seconds: float | None = None) -> tuple[bool, str]:
    """Run a command, killed after so many seconds; whether it was killed, and what it said."""
    process = FORK.Process(target=_command, args=(words.replace("OUT", out.name).split(), out.parent))
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    said = (out.parent / SAID).read_text() if (out.parent / SAID).exists() else ""
    killed = process.exitcode == -signal.SIGKILL
    if not killed and process.exitcode and NOTHING_YET not in said:
        raise RuntimeError(f"e2vpt {words} ended with {process.exitcode}:\n{said}")
    return killed, said


def _command(words: Sequence[str], folder: Path) -> None:
    os.chdir(folder)
    handle = os.open(SAID, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(handle, stream)
    sys.argv = ["e2vpt", *words]
    app.main()


def go_on(subject: Subject, out: Path, chance: random.Random, duration: float) -> int:
    """Resume until it ends; every third time killed again. Returns the number of those kills."""
    kills = 0
    while True:
        seconds = chance.uniform(0, duration) if chance.random() < 1 / 3 else None
        killed, said = run(subject.resume, out, seconds)
        if not killed and NOTHING_YET in said:
            killed, _ = run(subject.begin, out, seconds)
        if not killed:
            return kills
        kills += 1


def kill_one(name: str, starts: int, chance: random.Random, work: Path) -> list[dict[str, object]]:
    """Kill a command at so many moments; a row for each."""
    subject, whole, before = SUBJECTS[name], work / "whole", work / "before"
    if subject.prepare:
        run(subject.prepare, before)
        shutil.copytree(before, whole)
    began = time.monotonic()
    run(subject.begin, whole)
    duration = time.monotonic() - began
    rows: list[dict[str, object]] = []
    for start in range(starts):
        out, killed = work / "killed", False
        share = chance.uniform(start, start + 1) / starts
        while not killed:
            shutil.rmtree(out, ignore_errors=True)
            if subject.prepare:
                shutil.copytree(before, out)
            seconds, began = share * duration, time.monotonic()
            killed, _ = run(subject.begin, out, seconds)
            if not killed:  # The machine was busier when the duration was taken.
                duration = time.monotonic() - began
        there = len([path for path in out.rglob("*") if path.is_file()])
        again = go_on(subject, out, chance, duration)
        different = differences(whole, out)
        rows.append(
            {
                "command": name,
                "after_s": round(seconds, 2),
                "of_s": round(duration, 2),
                "kills": 1 + again,
                "files_then": there,
                "files": len([path for path in whole.rglob("*") if path.is_file()]),
                "different": different,
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main(words: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--starts", type=int, default=40, help="starts of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    asked = parser.parse_args(words)
    for module in ("e2vpt.cli.jobs.training", "e2vpt.search.here", "accelerate", "optuna", "sqlalchemy"):
        importlib.import_module(module)
    torch.set_num_threads(1)  # With another number of threads, sums are in another order.
    rows: list[dict[str, object]] = []
    for name in asked.only:
        with tempfile.TemporaryDirectory() as folder:
            write_task(Path(folder) / "shapes")
            rows += kill_one(name, asked.starts, random.Random(f"{asked.seed} {name}"), Path(folder))
    wrong = sum(bool(row["different"]) for row in rows)
    kills = sum(row["kills"] for row in rows if isinstance(row["kills"], int))
    print(json.dumps({"starts": len(rows), "kills": kills, "folders_that_differ": wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
