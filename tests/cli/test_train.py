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
        (("--protocol", "paper", "--calibrate"), "--calibrate has no effect with --protocol paper"),
        (("--protocol", "paper", "--keep", "0.3"), "keep has no effect with protocol 'paper'"),
        (("--protocol", "paper", "--init", "patch"), "init has no effect with protocol 'paper'"),
        (("--num-segments", "7"), "7 segments do not divide prompts of 128 channels"),
        (("--calibrate", "--no-report"), "leave out --no-report"),
    ],
)
def test_words_that_do_not_go_together(words, said, tmp_path: Path, e2vpt_command) -> None:  # type: ignore[no-untyped-def]
    write_task(tmp_path / "data")
    arguments = ("train", tmp_path / "data", "--backbone", "demo", "--out", tmp_path / "run", *words)
    code, _, err = e2vpt_command(*map(str, arguments))
    assert code == 1 and said in " ".join(err.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "flag", ["--lr 0.1", "--num-visual 3", "--keep 0.5", "--keep-tokens 0.5", "--finalists 2"]
)
def test_what_a_search_tries_itself_is_not_asked_for(flag: str, tmp_path: Path, e2vpt_command) -> None:  # type: ignore[no-untyped-def]
    write_task(tmp_path / "data")
    code, _, err = e2vpt_command("search", str(tmp_path / "data"), "--backbone", "demo", *flag.split())
    assert code == 1 and f"{flag.split()[0][2:].replace('-', '_')} has no effect in a search" in err


def test_a_run_of_the_papers_protocol_says_what_it_was_trained_on(tmp_path: Path, e2vpt_command) -> None:  # type: ignore[no-untyped-def]
    write_task(tmp_path / "data")
    grid = "--protocol paper --base-lrs 0.1 --weight-decays 0 --keep-ratios 0.5 --final-seeds 7 --epochs 1"
    arguments = ("train", str(tmp_path / "data"), "--backbone", "demo", "--out", str(tmp_path / "run"))
    code, _, err = e2vpt_command(*arguments, *grid.split(), "--momentum", "0.8")
    assert code == 0, err
    assert set(read_figures(tmp_path / "run")) == {"test"}, "validation images were trained on"
    card = (tmp_path / "run/README.md").read_text()
    assert "| trained on | train+val |" in card and "| seed |" not in card
