"""The commands `train` and `prune`: what they say and write, in two processes too, and what is refused."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.tasks_for_tests import write_images, write_task

from e2vpt.runs.folders.figures import read_figures

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
PRUNE = ["--keep-tokens", "0.3", "--keep-segments", "1,0.5", "--finalists", "1", "--tolerance", "1"]


def test_train_says_what_it_does(home: Path) -> None:
    said = (home / "stderr").read_text()
    assert "shapes: 3 classes; images: 30 train, 9 val, 12 test" in said
    assert said.count("epoch ") == 6
    shown = (home / "stdout").read_text()
    assert "run/adapter.safetensors" in shown
    assert "10 in each of 6 blocks" in shown
    accuracy = re.search(r"test accuracy +(\S+) of 12 images", shown)
    assert accuracy and re.search(r"\n  ring +\S+ of 4\n", shown)
    assert f'<dd class="value">{accuracy[1]}</dd>' in (home / "run/report.html").read_text()


def test_the_next_command_runs_as_it_is_printed(run, home: Path) -> None:  # type: ignore[no-untyped-def]
    (line,) = [line for line in (home / "stdout").read_text().splitlines() if line.startswith("next ")]
    words = shlex.split(line.removeprefix("next"))
    assert words[0] == "e2vpt"
    code, out, _ = run(*words[1:])
    assert code == 0 and out.startswith("shapes/test/bars/00.png: ")


def test_train_prunes_by_default_and_prune_does_it_later(run, home: Path) -> None:  # type: ignore[no-untyped-def]
    words = ["train", "shapes", "--backbone", "demo", "--epochs", "2", "--lr", "0.01", "--batch-size", "9"]
    code, out, err = run(*words, *PRUNE, "--out", "pruned")
    assert code == 0, err
    assert "Training with all prompts" in err and "Training again with 30% of tokens" in err
    assert "* chosen" in out
    found = json.loads(run("info", "pruned", "--json")[1])
    assert sum(found["num_visual"]) == 3 * 6 and min(found["num_visual"]) >= 1
    assert found["visual_kept"] in (0.3, 0.15)
    assert json.loads(run("eval", "pruned", "shapes", "--json")[1])["num_images"] == 12

    assert run(*words, "--no-prune", "--out", "later")[0] == 0
    unpruned = (home / "later/adapter.safetensors").read_bytes()
    code, _, err = run("prune", "later", *PRUNE)
    assert code == 0, err
    assert (home / "later/adapter.safetensors").read_bytes() == (
        home / "pruned/adapter.safetensors"
    ).read_bytes()
    assert (home / "later/unpruned.safetensors").read_bytes() == unpruned
    code, _, err = run("prune", "later", "--keep", "0.2")
    assert code == 1 and "later/prune was made with other settings: keep 0.5, now 0.2; keep_segments" in err
    assert "A run is pruned once" in err
    code, _, err = run("train", "--resume", "--out", "later", "--no-prune")
    assert code == 1 and "later holds a run that is pruned" in err
    code, _, err = run("prune", "shapes")
    assert code == 1 and "shapes is not a finished run of `e2vpt train`" in err


def test_prune_takes_what_the_runs_recipe_says(run, home: Path) -> None:  # type: ignore[no-untyped-def]
    words = ["train", "shapes", "--backbone", "demo", "--epochs", "1", "--recipe", "paper", "--no-prune"]
    assert run(*words, "--out", "published")[0] == 0
    code, _, err = run("prune", "published", "--keep", "0.3", "--keep-tokens", "0.5")
    assert code == 1 and "keep has no effect beside keep_tokens" in err
    code, _, err = run("prune", "published", *PRUNE)
    assert code == 0, err
    pruned = json.loads((home / "published/prune/config.json").read_text())
    assert (pruned["masks"], pruned["rewind_head"], pruned["keep_tokens"]) == ("shared", True, [0.3])


def test_linear_and_prompts_without_visual_ones_are_not_pruned(run, home: Path) -> None:  # type: ignore[no-untyped-def]
    words = ["train", "shapes", "--backbone", "demo", "--epochs", "1"]
    for name, more in (("head", ["--method", "linear"]), ("kv", ["--num-visual", "0"])):
        code, out, err = run(*words, *more, "--out", name)
        assert code == 0, err
        assert "Pruning" not in out and not (home / name / "prune").exists()


def test_a_calibrated_run_stays_calibrated(run, home: Path) -> None:  # type: ignore[no-untyped-def]
    words = [
        "train",
        "shapes",
        "--backbone",
        "demo",
        "--epochs",
        "1",
        "--lr",
        "3e-4",
        "--augment",
        "none",
        "--no-prune",
    ]
    assert run(*words, "--out", "warm", "--calibrate")[0] == 0
    before = (home / "warm/adapter.safetensors").read_bytes()
    assert "temperature" in json.loads(run("info", "warm", "--json")[1])["metrics"]
    assert run("train", "--resume", "--out", "warm", "--no-report")[0] == 1
    assert run("train", "--resume", "--out", "warm")[0] == 0
    assert (home / "warm/adapter.safetensors").read_bytes() == before


def test_fp16_adapter_is_half_the_size(run, home: Path) -> None:  # type: ignore[no-untyped-def]
    words = ["train", "shapes", "--backbone", "demo", "--epochs", "1", "--no-prune"]
    code, _, err = run(*words, "--adapter-precision", "fp16", "--out", "half")
    assert code == 0, err
    half, full = (json.loads(run("info", name, "--json")[1]) for name in ("half", "run"))
    assert half["precision"] == "fp16"
    assert half["bytes"] < 0.6 * full["bytes"]
    assert run("eval", "half", "shapes", "--json")[0] == 0


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
        (
            ("--protocol", "paper", "--augment", "auto"),
            "augment has no effect as 'auto' with protocol 'paper'",
        ),
        (("--protocol", "paper", "--train-on", "train+val"), "which train_on train+val leaves none of"),
        (("--patience", "2", "--train-on", "train+val"), "which train_on train+val leaves none of"),
        (("--share-kv",), "share_kv has no effect without key-value prompts (num_kv is 0)"),
    ],
)
def test_words_that_do_not_go_together(words, said, tmp_path: Path, e2vpt_command) -> None:  # type: ignore[no-untyped-def]
    write_task(tmp_path / "data")
    arguments = ("train", tmp_path / "data", "--backbone", "demo", "--out", tmp_path / "run", *words)
    code, _, err = e2vpt_command(*map(str, arguments))
    assert code == 1 and said in " ".join(err.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "flag",
    [
        *("--lr 0.1", "--num-visual 3", "--keep 0.5", "--keep-tokens 0.5", "--finalists 2"),
        "--train-on train+val",
    ],
)
def test_what_a_search_tries_itself_is_not_asked_for(flag: str, tmp_path: Path, e2vpt_command) -> None:  # type: ignore[no-untyped-def]
    write_task(tmp_path / "data")
    code, _, err = e2vpt_command("search", str(tmp_path / "data"), "--backbone", "demo", *flag.split())
    assert code == 1 and f"{flag.split()[0][2:].replace('-', '_')} has no effect in a search" in err


@pytest.mark.parametrize(("engine", "module"), [("optuna", "optuna"), ("ray", "ray")])
def test_a_missing_engine_is_said_before_images_are_read(
    engine: str,
    module: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    e2vpt_command: Callable[..., tuple[int, str, str]],
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    words = ("search", str(tmp_path / "nowhere"), "--backbone", "demo", "--engine", engine)
    code, _, err = e2vpt_command(*words)
    assert code == 1 and "pip install" in err and "nowhere" not in err


def test_a_run_of_the_papers_protocol_says_what_it_was_trained_on(tmp_path: Path, e2vpt_command) -> None:  # type: ignore[no-untyped-def]
    write_task(tmp_path / "data")
    grid = "--protocol paper --base-lrs 0.1 --weight-decays 0 --keep-ratios 0.5 --final-seeds 7 --epochs 1"
    arguments = ("train", str(tmp_path / "data"), "--backbone", "demo", "--out", str(tmp_path / "run"))
    code, _, err = e2vpt_command(*arguments, *grid.split(), "--momentum", "0.8")
    assert code == 0, err
    assert set(read_figures(tmp_path / "run")) == {"test"}, "validation images were trained on"
    code, _, err = e2vpt_command("prune", str(tmp_path / "run"))
    assert code == 1 and "holds a run of the paper's protocol, which has pruned already" in err
    card = (tmp_path / "run/README.md").read_text()
    assert "| trained on | train+val |" in card and "| seed |" not in card


def test_every_unreadable_image_is_named_before_training(run, home: Path) -> None:  # type: ignore[no-untyped-def]
    if not (home / "bad").exists():
        write_images(home / "bad", 6)
    (home / "bad/ring/00.png").write_bytes(b"")
    whole = (home / "bad/bars/01.png").read_bytes()
    (home / "bad/bars/01.png").write_bytes(whole[:200])
    code, _, err = run("train", "bad", "--backbone", "demo", "--out", "never")
    assert code == 1
    assert "2 unreadable image(s):" in err
    assert "bars/01.png" in err
    assert "ring/00.png" in err
    assert not (home / "never").exists()


def test_a_missing_backbone_gets_three_to_start_with(run) -> None:  # type: ignore[no-untyped-def]
    for command in ("train", "search"):
        code, _, err = run(command, "shapes")
        assert code == 1 and "Name the --backbone. To start with: vit_small_patch16_224" in err
