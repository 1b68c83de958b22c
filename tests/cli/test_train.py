"""The command `train` where it is more than one process, and words that do not go together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.tasks_for_tests import write_task

from e2vpt.runs.figures import read_figures

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def test_of_two_processes_one_reports(tmp_path: Path) -> None:
    write_task(tmp_path / "data")
    words = ["-m", "e2vpt", "train", "data", "--backbone", "demo", "--epochs", "1", "--batch-size", "8"]
    words += ["--no-prune", "--calibrate", "--tensorboard", "--out", "run"]
    done = subprocess.run([*LAUNCH, *words], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for line in ("test accuracy", "temperature", "report  ", "next  "):
        assert done.stdout.count(line) == 1, done.stdout
    test = read_figures(tmp_path / "run")["test"]
    assert test.num_images == 12
    assert f"| test accuracy | {test.accuracy:.1%} of 12 images |" in (tmp_path / "run/README.md").read_text()
    assert (tmp_path / "run/report.html").exists()
    assert len(list((tmp_path / "run/tensorboard").rglob("events.*"))) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--protocol", "paper", "--tensorboard"), "--tensorboard has no effect with --protocol paper"),
        (("--protocol", "paper", "--no-prune"), "--no-prune has no effect with --protocol paper"),
        (("--calibrate", "--no-report"), "leave out --no-report"),
    ],
)
def test_words_that_do_not_go_together(words, said, tmp_path: Path, e2vpt_command) -> None:  # type: ignore[no-untyped-def]
    write_task(tmp_path / "data")
    arguments = ("train", tmp_path / "data", "--backbone", "demo", "--out", tmp_path / "run", *words)
    code, _, err = e2vpt_command(*map(str, arguments))
    assert code == 1 and said in " ".join(err.split())
    assert not (tmp_path / "run").exists()
