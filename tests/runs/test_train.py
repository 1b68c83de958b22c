"""`e2vpt.train` is the command line's `train`, to the byte; settings without effect are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.tasks_for_tests import write_task

import e2vpt
from e2vpt.errors import ConfigError, RunError
from e2vpt.runs.folders.folder import ADAPTER

Command = Callable[..., tuple[int, str, str]]
FAST = {"epochs": 1, "batch_size": 8, "num_visual": 4}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_task(tmp_path_factory.mktemp("data") / "shapes", train=4, val=2, test=2)


def test_python_and_the_command_line_write_the_same_bytes(
    data: Path, tmp_path: Path, e2vpt_command: Command
) -> None:
    e2vpt.train(data, "demo", tmp_path / "python", verbose=False, **FAST)
    words = [word for name, value in FAST.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    code, _, err = e2vpt_command(
        "train", str(data), "--backbone", "demo", "--out", str(tmp_path / "command"), *words
    )
    assert code == 0, err
    first, second = ((tmp_path / name / ADAPTER).read_bytes() for name in ("python", "command"))
    assert first == second


def test_the_defaults_are_the_recipes(data: Path, tmp_path: Path) -> None:
    model = e2vpt.train(data, "demo", tmp_path / "run", verbose=False, prune=False, epochs=1)
    assert (model.info.prompts.init, model.info.prompts.kv_init) == ("patch", "patch")
    assert (model.info.options.beside, model.info.num_kv) == ("scale", (0,) * 6)
    assert model.path == tmp_path / "run" / ADAPTER


def test_prompts_of_ones_own_are_the_papers() -> None:
    config = e2vpt.PromptConfig()
    assert (config.init, config.kv_init) == ("uniform", "kaiming")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"prune": False, "keep": 0.3}, "keep has no effect where nothing is pruned"),
        ({"method": "lora", "num_visual": 20}, "num_visual has no effect with method 'lora'"),
        ({"method": "lora", "keep": 0.3}, "keep has no effect where nothing is pruned"),
        ({"num_visual": 0, "keep": 0.3}, "keep has no effect where nothing is pruned"),
        ({"lora_rank": 4}, "lora_rank has no effect with method 'e2vpt'"),
        ({"momentum": 0.5}, "momentum has no effect with AdamW"),
        ({"epoch": 3}, "no setting 'epoch'; did you mean epochs"),
        ({"epochs": 0}, "epochs is 0"),
    ],
)
def test_what_has_no_effect_is_refused_before_anything_is_written(
    data: Path, tmp_path: Path, asked: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        e2vpt.train(data, "demo", tmp_path / "run", verbose=False, **asked)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--no-prune", "--keep", "0.3"], "keep has no effect where nothing is pruned"),
        (["--method", "lora", "--num-visual", "20"], "num_visual has no effect with method 'lora'"),
        (["--base-lrs", "1,2"], "base_lrs has no effect without protocol 'paper'"),
        (["--protocol", "paper", "--lr", "0.1"], "lr has no effect with protocol 'paper'"),
        (["--protocol", "paper", "--no-prune"], "--no-prune has no effect with --protocol paper"),
    ],
)
def test_the_command_refuses_them_too(
    data: Path, tmp_path: Path, e2vpt_command: Command, flags: list[str], message: str
) -> None:
    code, _, err = e2vpt_command(
        "train", str(data), "--backbone", "demo", "--out", str(tmp_path / "run"), *flags
    )
    assert code == 1
    assert message in err
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_overwritten_and_goes_on(data: Path, tmp_path: Path) -> None:
    settings = {"prune": False, "epochs": 1, "verbose": False}
    first = e2vpt.train(data, "demo", tmp_path / "run", **settings)  # type: ignore[arg-type]
    with pytest.raises(RunError, match="holds a run already"):
        e2vpt.train(data, "demo", tmp_path / "run", **settings)  # type: ignore[arg-type]
    again = e2vpt.train(data, "demo", tmp_path / "run", resume=True, **settings)  # type: ignore[arg-type]
    assert again.path.read_bytes() == first.path.read_bytes()


def test_it_says_how_much_is_trained(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    e2vpt.train(data, "demo", tmp_path / "run", prune=False, epochs=1)
    err = " ".join(capsys.readouterr().err.split())
    assert "shapes: 3 classes; images: 12 train, 6 val, 6 test" in err
    assert "trainable params: " in err and "|| trainable%: " in err
