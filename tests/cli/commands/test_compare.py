"""`e2vpt compare` as a newcomer runs it."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import pytest
from support.tasks_for_tests import write_task

from e2vpt.benchmarks.compare.entries import ENTRIES


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, e2vpt_command):  # type: ignore[no-untyped-def]
    """Call `e2vpt compare ...` in a folder with two tasks: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    for name in ("shapes", "forms"):
        write_task(tmp_path / name)
    return functools.partial(e2vpt_command, "compare")


WORDS = "shapes forms --backbone demo --methods linear,bias --seeds 1 --epochs 1 --batch-size 9 --out table"


def test_one_command_one_table(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, out, err = run(*WORDS.split())
    assert code == 0, err
    assert "| method | mean | shapes | forms | seeds | tuned | head | rate | file, bytes |" in out
    assert f"Run 1 of 16: tuning/linear/shapes-lr{ENTRIES['linear'].lrs[0]:g}" in err
    assert {p.name for p in (tmp_path / "table").iterdir() if p.is_file()} == {
        ".lock",
        "config.json",
        "trials.jsonl",
        "results.csv",
        "results.md",
        "results.tex",
        "tuning.csv",
        "pareto.png",
    }
    code, _, err = run(*WORDS.split())
    assert code == 1 and "table holds a run already. Go on with it by --resume" in err
    code, again, err = run(*WORDS.split(), "--resume")
    assert code == 0 and "Run" not in err and "| bias |" in again


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("shapes --backbone demo --methods magic", "methods: magic; expected some of linear, full"),
        ("shapes shapes --backbone demo", "have the same name"),
        ("shapes --backbone demo --rates bias", "rates: 'bias'; expected METHOD=RATE"),
        ("shapes --backbone demo --rates biased=1", "rates: biased is not compared; compared are linear"),
        ("shapes --backbone demo --rates bias=-1", "the rate of bias is -1.0"),
        ("shapes --backbone demo --lr 0.1", "lr has no effect in a comparison, which tries rates"),
        ("shapes --backbone demo --seed 1 --train-on train+val", "seed has no effect in a comparison"),
        ("shapes --backbone demo --tune-on other", "Rates are chosen on other; the tasks are shapes"),
    ],
)
def test_bad_input(run, words: str, message: str) -> None:  # type: ignore[no-untyped-def]
    code, _, err = run(*words.split())
    assert code == 1 and message in err


def test_known_rates_are_not_chosen_again(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, out, err = run(*WORDS.split(), "--rates", "linear=0.003,bias=0.02")
    assert code == 0 and "tuning/" not in err and "Run 4 of 4: final/bias/forms-seed0" in err
    assert "| 0.003 |" in out and "| 0.02 |" in out
    code, _, err = run(*WORDS.split(), "--resume", "--rates", "linear=0.003,bias=0.01")
    assert code == 1 and "bias was compared with rate 0.02, now 0.01. Give its rate as before" in err


@pytest.mark.parametrize("more", ["", "--prune-at 1", "--rewind initial"])
def test_few_epochs_prune_late_unless_somebody_says_when(run, tmp_path: Path, more: str) -> None:  # type: ignore[no-untyped-def]
    words = WORDS.replace("linear,bias", "e2vpt").replace("--epochs 1", "--epochs 4").replace(" forms", "")
    code, out, err = run(*words.split(), "--num-visual", "2", "--rates", "e2vpt=0.01", *more.split())
    assert code == 0 and "| e2vpt |" in out
    assert ("4 epochs are few for two trainings: pruning comes within one, at 75%" in err) == (not more)
    asked = json.loads((tmp_path / "table/final/e2vpt/shapes-seed0/prune/config.json").read_text())
    assert (asked["prune_at"], asked["rewind"]) == ((1.0, "initial") if more else (0.75, "none"))


def test_a_given_rate_is_given_again(run) -> None:  # type: ignore[no-untyped-def]
    """Without it, three rates would be tuned before another one is found in the folder."""
    words = "shapes --backbone demo --methods linear --seeds 1 --epochs 1 --batch-size 9 --out table"
    known = ENTRIES["linear"].lrs[0]
    assert run(*words.split(), "--rates", f"linear={known:g}")[0] == 0
    code, _, err = run(*words.split(), "--resume")
    assert code == 1 and f"linear was compared with rate {known:g}, now it would be chosen from" in err
    assert "tuning/" not in err


def test_tasks_can_be_added(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Rates stay those that the first tasks chose."""
    words = "--backbone demo --methods linear --seeds 1 --epochs 1 --batch-size 9 --out table"
    assert run("shapes", *words.split())[0] == 0
    code, out, err = run("shapes", "forms", *words.split(), "--resume")
    assert code == 0 and "| method | mean | shapes | forms |" in out, err
    assert "final/linear/forms-seed0" in err and "tuning/" not in err
    assert json.loads((tmp_path / "table/config.json").read_text())["tune_on"] == ["shapes"]
    code, _, err = run("shapes", "forms", *words.split(), "--resume", "--tune-on", "forms")
    assert code == 1 and "other settings: tune_on ('shapes',), now ('forms',)" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("shapes --methods magic", "methods: magic; expected some of linear"),
        ("shapes --rates bias", "rates: 'bias'; expected METHOD=RATE"),
        ("shapes --tune-on other", "Rates are chosen on other; the tasks are shapes"),
        ("shapes shapes", "have the same name"),
        ("shapes --methods linear", "unreadable image"),
    ],
)
def test_names_are_wrong_before_images_are(run, tmp_path: Path, words: str, message: str) -> None:  # type: ignore[no-untyped-def]
    next((tmp_path / "shapes/train").glob("*/*")).write_bytes(b"torn")
    code, _, err = run(*words.split(), "--backbone", "demo")
    assert code == 1 and message in err and err.count("error: ") == 1


def test_a_backbone_that_is_none_is_refused_before_images_are(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    next((tmp_path / "shapes/train").glob("*/*")).write_bytes(b"torn")
    code, _, err = run("shapes", "--backbone", "vit_tinny_patch16_224")
    assert code == 1 and "Closest: vit_tiny_patch16_224" in err


@pytest.mark.parametrize(("module", "needed"), [("peft", "Method lora is PEFT's"), ("matplotlib.figure", "")])
def test_what_is_not_installed_is_said_before_images_are_read(  # type: ignore[no-untyped-def]
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, needed: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    next((tmp_path / "shapes/train").glob("*/*")).write_bytes(b"torn")
    code, _, err = run("shapes", "--backbone", "demo", "--methods", "linear,lora", "--out", "table")
    assert code == 1 and "pip install 'e2vpt[bench]'" in err and needed in err
    assert not (tmp_path / "table").exists()


def test_rows_of_the_paper_prune_as_published_unless_somebody_says_how(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    words = "shapes --backbone demo --methods e2vpt-paper --seeds 1 --epochs 4 --batch-size 9 --num-visual 2"
    words += " --num-segments 4 --rates e2vpt-paper=0.01 --out"
    for out, more, expected in (
        ("table", "", ("shared", True, 1.0, "initial")),
        ("asked", "--masks per-block --prune-at 0.5", ("per-block", True, 0.5, "initial")),
    ):
        code, _, err = run(*words.split(), out, *more.split())
        assert code == 0 and "few for two trainings" not in err, err
        path = tmp_path / out / "final/e2vpt-paper/shapes-seed0/prune/config.json"
        asked = json.loads(path.read_text())
        assert tuple(asked[n] for n in ("masks", "rewind_head", "prune_at", "rewind")) == expected
    code, _, err = run(*words.split(), "table", "--resume", "--seeds", "2", "--masks", "per-block")
    assert code == 1 and "e2vpt-paper was compared with other pruning: masks shared, now per-block" in err
