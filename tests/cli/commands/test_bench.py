"""The measuring commands as a newcomer runs them."""

from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path

import pytest

from e2vpt.benchmarks.load.generator import Load, LoadAnswers
from e2vpt.errors import RunError


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, e2vpt_command):  # type: ignore[no-untyped-def]
    """Call `e2vpt bench ...` in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    return functools.partial(e2vpt_command, "bench")


def test_speed_quick(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, out, err = run("speed", "--quick")
    assert code == 0, err
    assert "* command: e2vpt bench speed --quick" in out
    assert "| ours | 5 |" in out and "| LoRA r = 8 (PEFT) |" in out
    assert "test_vit, fp32, batch 2, cpu: step" in err
    files = {path.name for path in (tmp_path / "runs/bench-speed").iterdir()}
    assert files == {"speed.jsonl", "speed.csv", "speed.md"}
    assert (tmp_path / "runs/bench-speed/speed.md").read_text().strip() in out
    # Measured already: only the report is made again.
    code, again, err = run("speed", "--quick")
    assert code == 0 and "fp32" not in err
    assert again == out


def test_how_cost_grows_with_image_size_and_blocks(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    words = "--backbone test_vit --precision fp32 --prompts 1 --methods e2vpt --modes inference --rounds 1"
    words += " --batch-size 2,1 --image-size 160,224 --blocks 1,2 --out report"
    code, out, err = run("speed", *words.split())
    assert code == 0, err
    assert out.count("| ours | 1 |") == 8 and "## test_vit, 224 px, 2 blocks, fp32, batch 1, cpu" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("speed --prompts ten", "prompts is 'ten'; expected whole numbers separated by commas"),
        ("speed --methods magic", "methods: 'magic' is not one of plain, linear"),
        ("speed --precision int8", "precision is 'int8'; expected one of fp32, bf16"),
        ("speed --image-size 1", "image_size is 1; expected a whole number of at least 8"),
        ("speed --blocks 0", "depth is 0; expected a whole number of at least 1"),
        ("speed --backbone nothing_at_all", "nothing_at_all"),
        ("speed --backbone resnet18 --methods e2vpt --prompts 1", "resnet18"),
    ],
)
def test_bad_input(run, words: str, message: str) -> None:  # type: ignore[no-untyped-def]
    code, _, err = run(*words.split())
    assert code == 1 and "error:" in err and message in err


def test_serve_puts_load_on_a_server_of_its_own(tmp_path: Path, e2vpt_command) -> None:  # type: ignore[no-untyped-def]
    words = ["--loaded", "2", "--rates", "20", "--seconds", "1", "--out", str(tmp_path / "load")]
    code, out, err = e2vpt_command("bench", "serve", *words)
    assert code == 0, err
    assert "20 requests a second for 1 seconds, 2 tasks" in err
    assert "# A server under load" in out and "* tasks: 2" in out
    assert {path.name for path in (tmp_path / "load").iterdir()} == {"serve.md", "serve.csv"}
    code, _, err = e2vpt_command("bench", "serve", "--url", "ftp://a", "--out", str(tmp_path / "load"))
    assert code == 1 and "expected http://HOST:PORT" in err


def test_rates_before_a_server_went_away_are_kept(  # type: ignore[no-untyped-def]
    tmp_path: Path, e2vpt_command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def generate(load: Load) -> LoadAnswers:
        if load.rate > 40:
            raise RunError("Nobody answers at 127.0.0.1:1: refused.")
        return LoadAnswers(latencies=[0.01], codes=Counter({200: 1}), seconds=1.0)

    monkeypatch.setattr("e2vpt.benchmarks.load.generator.generate", generate)
    monkeypatch.setattr("e2vpt.benchmarks.load.server.task_names", lambda *_: ["a"])
    words = ("serve", "--url", "http://127.0.0.1:1", "--out", str(tmp_path / "load"))
    code, _, err = e2vpt_command("bench", *words, "--rates", "40,80")
    assert code == 1 and "error: At 80 requests a second: Nobody answers" in err
    assert f"The rates before are in {tmp_path / 'load'}." in err
    assert "| 40 |" in (tmp_path / "load/serve.md").read_text()
    code, _, err = e2vpt_command("bench", *words, "--rates", "")
    assert code == 1 and "rates is empty" in err
