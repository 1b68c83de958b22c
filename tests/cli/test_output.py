"""Tables on stdout: what a person reads fits eighty columns and says what was found."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from e2vpt.cli.output import print_csv, print_final, print_json, print_trials, print_tried
from e2vpt.runs.folders.tried import Tried
from e2vpt.runs.models.predict import Prediction
from e2vpt.search.space import TrialResult

ROW = Tried(
    stage="unpruned",
    tokens=1.0,
    segments=1.0,
    kept=1.0,
    num_tuned=103_680,
    bytes=1_449_224,
    epochs=100,
    accuracy=0.8805,
    loss=0.41,
)
TRIAL = TrialResult(
    name="004",
    state="complete",
    accuracy=0.915,
    loss=0.25,
    epochs=20,
    lr=0.00534,
    weight_decay=0.00014,
    num_visual=100,
    num_kv=10,
    init="uniform",
    keep=1.0,
)


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_prunings(capsys: pytest.CaptureFixture[str]) -> None:
    retrained = {"stage": "retrained", "tokens": 0.7, "segments": 5 / 7, "kept": 0.5, "chosen": True}
    fields = {name: getattr(ROW, name) for name in ("num_tuned", "bytes", "epochs", "accuracy", "loss")}
    print_tried([ROW, Tried(**(fields | retrained))])  # type: ignore[arg-type]
    shown = capsys.readouterr().out
    assert "on validation images" in shown
    assert max(map(len, shown.splitlines())) <= 80 and "\u2026" not in shown
    for words in ("all", "70% x 71% retrained *", "103,680", "1,449,224", "88.0%", "0.410", "* chosen"):
        assert words in shown, words


def test_prunings_without_validation_images_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_tried([ROW], has_val=False)
    assert "Pruning, on the training images" in capsys.readouterr().out


def test_trials(capsys: pytest.CaptureFixture[str]) -> None:
    stopped = {name: getattr(TRIAL, name) for name in TRIAL.__dataclass_fields__} | {"state": "stopped"}
    print_trials([TRIAL, TrialResult(**stopped)])
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80 and "\u2026" not in shown
    for words in ("004", "0.0053", "0.0001", "100 + 10", "uniform", "100%", "91.5%", "0.250", "stopped"):
        assert words in shown, words


def test_the_paper_s_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = {"lr": 0.625, "weight_decay": 0.001, "tokens": 0.5, "segments": 0.9, "kept": 0.45, "epochs": 100}
    rows = [{"stage": "grid", "epochs": 100}]
    rows += [chosen | {"stage": "final", "test_accuracy": value} for value in (0.8, 0.82)]
    print_final(rows)
    shown = capsys.readouterr().out
    assert "3, 300 epochs" in shown and "learning rate 0.625, weight decay 0.001" in shown
    assert "50% of tokens, 90% of segments, 45% kept" in shown
    assert "81.00 \u00b1 1.41 % (2 seeds)" in shown
    print_final([chosen | {"stage": "final"}])
    assert "test accuracy" not in capsys.readouterr().out


def test_json_lines_have_the_same_keys(capsys: pytest.CaptureFixture[str]) -> None:
    found = [Prediction(file="a.png", classes=("b",), scores=(0.75,)), Prediction(file="c.png", error="cut")]
    assert print_json(found) == 1
    good, bad = map(json.loads, capsys.readouterr().out.splitlines())
    assert good == {"file": "a.png", "classes": ["b"], "scores": [0.75], "error": None}
    assert bad == {"file": "c.png", "classes": [], "scores": [], "error": "cut"}


def test_csv_with_other_separators(capsys: pytest.CaptureFixture[str]) -> None:
    print_csv([Prediction(file="a;b.png", classes=("c",), scores=(0.5,))], separator=";")
    assert capsys.readouterr().out == 'file;rank;class;score;error\n"a;b.png";1;c;0.500000;\n'


@pytest.mark.parametrize("name", ["=1+1", "+a", "-a", "@a"])
def test_csv_for_spreadsheets(capsys: pytest.CaptureFixture[str], name: str) -> None:
    found = [
        Prediction(file=f"{name}.png", classes=(name, "äé"), scores=(0.75, 0.25)),
        Prediction(file="b.png", error="cut"),
    ]
    assert print_csv(found) == 1
    plain = capsys.readouterr().out
    assert plain.splitlines()[1] == f"{name}.png,1,{name},0.750000,"
    assert print_csv(found, for_spreadsheets=True) == 1
    marked = capsys.readouterr().out
    assert marked.encode()[:3] == b"\xef\xbb\xbf"
    assert marked[1:] == plain.replace(name, f"'{name}")


@pytest.mark.parametrize(
    ("redirected", "code", "said"),
    [
        ("--version > /dev/full", 1, "Could not write the results: No space left on device"),
        ("--help > /dev/full", 1, "Could not write the results: No space left on device"),
        ("--help >&-", 0, ""),
        ("--help | true", None, ""),
    ],
)
def test_stdout_may_be_closed_or_full(redirected: str, code: int | None, said: str) -> None:
    command = f"set -o pipefail; {sys.executable} -m e2vpt {redirected}"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        ["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=120
    )
    assert said in done.stderr and len(done.stderr.splitlines()) <= 1, done.stderr
    # A pipe may be closed before or after the last line.
    assert done.returncode in ((0, 1) if code is None else (code,))
