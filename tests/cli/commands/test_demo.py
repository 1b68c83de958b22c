"""What the demo prints and leaves behind, in two epochs; .ci/run runs it at full length."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from e2vpt import TrainConfig, read_adapter
from e2vpt.cli.jobs import demo as module
from e2vpt.runs.reporting import Reporting
from e2vpt.training.fit import StepReport

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def short_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    """In an empty folder, two epochs on one image of each place."""
    monkeypatch.chdir(tmp_path)
    train = TrainConfig(epochs=2, batch_size=16, lr=0.01)
    configs = {name: dataclasses.replace(config, train=train) for name, config in module._CONFIGS.items()}
    monkeypatch.setattr(module, "_CONFIGS", configs)
    monkeypatch.setattr(module, "_PER_PLACE", {"train": 1, "val": 1, "test": 2})


def test_the_table_says_what_the_adapters_hold(e2vpt_command: Command) -> None:
    code, shown, _ = e2vpt_command("demo", "--out", "a demo")
    assert code == 0
    for method, title in (("linear", "│ linear head "), ("e2vpt", "│ E²VPT ")):
        info = read_adapter(f"a demo/{method}/adapter.safetensors")
        (line,) = (line for line in shown.splitlines() if title in line)
        assert f" {info.num_tuned + info.num_head:,} " in line
        assert f" {info.bytes:,} " in line
        assert info.bytes == Path(f"a demo/{method}/adapter.safetensors").stat().st_size < 15_000


def test_the_printed_commands_work(e2vpt_command: Command) -> None:
    _, shown, _ = e2vpt_command("demo", "--out", "a demo")
    commands = [shlex.split(line)[1:] for line in shown.splitlines() if line.strip().startswith("e2vpt ")]
    assert [command[0] for command in commands] == ["predict", "eval", "report", "train"]
    predict, evaluate, report, train = commands
    code, said, _ = e2vpt_command(*predict)
    assert code == 0 and said.startswith("a demo/data/test/row-2-column-3/000.png: row-")
    code, said, _ = e2vpt_command(*evaluate)
    accuracy = said.split()[1].removesuffix("%")
    assert code == 0 and "on 32 images (test)" in said
    (line,) = (line for line in shown.splitlines() if "│ E²VPT " in line)
    assert f" {float(accuracy):.1f}% " in line
    code, said, _ = e2vpt_command(*report)
    assert code == 0 and Path("comparison.html").exists()
    assert f"{'test accuracy':18} {accuracy}% of 32 images" in said
    # The backbone it names would be downloaded; the shipped one serves to try the rest of the command.
    offline = ["a demo/data" if word.startswith("path/") else word for word in train]
    offline[offline.index("--backbone") + 1] = "demo"
    assert e2vpt_command(*offline, "--epochs", "1", "--no-prune", "--out", "own")[0] == 0
    assert Path("own/adapter.safetensors").exists()


def test_a_second_call_trains_nothing(monkeypatch: pytest.MonkeyPatch, e2vpt_command: Command) -> None:
    outcomes = module.run_demo(Path("demo"))
    assert all(outcome.seconds is not None for outcome in outcomes)
    before = {path: path.stat().st_mtime_ns for path in Path("demo/data").rglob("*.png")}
    again = module.run_demo(Path("demo"))
    assert again == outcomes
    assert all(outcome.seconds is None for outcome in again)
    assert before == {path: path.stat().st_mtime_ns for path in Path("demo/data").rglob("*.png")}
    assert "done before" in e2vpt_command("demo", "--out", "demo")[1]


def test_it_leaves_the_number_of_threads_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_outcome", lambda *_: pytest.fail("never"))
    torch.set_num_threads(2)
    with pytest.raises(pytest.fail.Exception):
        module.run_demo(Path("demo"))
    assert torch.get_num_threads() == 2


def test_an_interrupted_demo_continues_to_the_same_adapter(
    monkeypatch: pytest.MonkeyPatch, e2vpt_command: Command
) -> None:
    module.run_demo(Path("whole"))
    train_run = module.train_run

    def interrupted(*args: object, **words: object) -> object:
        def on_step(report: StepReport) -> None:
            if report.epoch == 2:
                raise KeyboardInterrupt

        return train_run(*args, **{**words, "reporting": Reporting(on_step=on_step)})  # type: ignore[arg-type]

    monkeypatch.setattr(module, "train_run", interrupted)
    code, _, said = e2vpt_command("demo", "--out", "broken")
    assert code == 130 and "Run the same command again to continue." in said
    assert not Path("broken/linear/adapter.safetensors").exists()
    monkeypatch.setattr(module, "train_run", train_run)
    code, _, said = e2vpt_command("demo", "--out", "broken")
    assert code == 0 and "linear head: continuing" in said
    for method in ("linear", "e2vpt"):
        name = f"{method}/adapter.safetensors"
        assert (Path("broken") / name).read_bytes() == (Path("whole") / name).read_bytes()
