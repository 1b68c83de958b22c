"""A run folder: what it holds, and that a killed run resumes to the same adapter bytes."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from support.killing import differences, killed_process
from support.tasks_for_tests import write_images, write_task

import e2vpt
from e2vpt import DataConfig, PromptConfig, RunConfig, TrainConfig, load_adapter, load_task, read_adapter
from e2vpt.errors import ConfigError, RunError
from e2vpt.runs.folders.finding import adapter_path, run_of
from e2vpt.runs.folders.opening import open_folder
from e2vpt.runs.reporting import Reporting
from e2vpt.runs.run import train_run

Command = Callable[..., tuple[int, str, str]]
CONFIG = RunConfig(
    backbone="demo",
    prompts=PromptConfig(num_visual=2, num_kv=1),
    data=DataConfig(split_seed=4),
    train=TrainConfig(epochs=2, batch_size=8, lr=0.01),
)


def test_a_run_explains_itself(tmp_path: Path) -> None:
    task = load_task(write_task(tmp_path / "shapes"))
    out = tmp_path / "run"
    trained = train_run(task, CONFIG, out)
    assert sorted(path.name for path in out.iterdir()) == [
        ".lock",
        "README.md",
        "adapter.safetensors",
        "checkpoint.safetensors",
        "config.json",
        "last.safetensors",
        "log.csv",
        "log.jsonl",
        "splits.csv",
    ]
    saved = json.loads((out / "config.json").read_text())
    assert saved == json.loads(json.dumps(CONFIG.to_dict())) | {
        "task": "shapes",
        "classes": ["bars", "disc", "ring"],
        "fingerprint": read_adapter(out / "adapter.safetensors").fingerprint,
        "e2vpt": e2vpt.__version__,
        "begun": datetime.date.today().isoformat(),
    }
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert rows == trained.result.history
    assert [row["epoch"] for row in rows] == [1, 2]
    table = list(csv.DictReader((out / "log.csv").read_text().splitlines()))
    assert [row.pop("training") for row in table] == ["the only one"] * 2
    assert [{name: float(value) for name, value in row.items()} for row in table] == rows

    info = read_adapter(out / "adapter.safetensors")
    best = rows[trained.result.best_epoch - 1]
    assert best == trained.result.best
    assert info.classes == ("bars", "disc", "ring")
    assert info.metrics == {
        "epoch": best["epoch"],
        "val_accuracy": best["val_accuracy"],
        "val_loss": best["val_loss"],
    }
    assert read_adapter(out / "last.safetensors").metrics["epoch"] == 2
    model, _ = load_adapter(out / "adapter.safetensors")
    for (name, a), (_, b) in zip(model.state_dict().items(), trained.model.state_dict().items(), strict=True):
        assert a.equal(b), name
    for adapter in (out / "adapter.safetensors", out / "prune/1.000-0.500/adapter.safetensors"):
        assert run_of(adapter, info.classes, info.fingerprint) == out
        assert run_of(adapter, info.classes, "other weights") is run_of(adapter, ("a", "b"), "") is None
    assert adapter_path(out) == out / "adapter.safetensors"


@pytest.mark.parametrize(
    "missing", [("log.jsonl", "log.csv", "last.safetensors"), ("log.csv",), ("last.safetensors",)]
)
def test_what_a_kill_left_out_behind_the_last_checkpoint_is_made_up_for(
    tmp_path: Path, missing: tuple[str, ...]
) -> None:
    """Logs and last adapter are written after the checkpoint; a resume has no epoch left for them."""
    task, out = load_task(write_task(tmp_path / "shapes")), tmp_path / "run"
    told: list[object] = []
    train_run(task, CONFIG, out, reporting=Reporting(on_epoch=told.append))
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    for name in missing:
        old = b"".join(whole[name].splitlines(keepends=True)[:-1])  # one epoch short
        (out / name).write_bytes(old if name.startswith("log") else b"")
    again: list[object] = []
    train_run(task, CONFIG, out, resume=True, reporting=Reporting(on_epoch=again.append))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole
    assert again == (told[-1:] if "log.jsonl" in missing else [])


def test_the_last_training_may_use_validation_images_too(tmp_path: Path) -> None:
    task = load_task(write_task(tmp_path / "shapes"))
    assert task.val is not None
    data = dataclasses.replace(CONFIG.data, train_on="train+val")
    trained = train_run(task, dataclasses.replace(CONFIG, data=data), tmp_path / "run")
    assert trained.result.best_epoch == CONFIG.train.epochs
    assert set(trained.result.history[0]) == {"epoch", "lr", "train_loss", "train_accuracy"}
    assert set(read_adapter(tmp_path / "run" / "adapter.safetensors").metrics) == {"epoch"}


def test_linear_trains_a_head_alone(tmp_path: Path) -> None:
    task = load_task(write_task(tmp_path / "shapes"))
    info = read_adapter(
        train_run(task, dataclasses.replace(CONFIG, method="linear"), tmp_path / "run").adapter
    )
    assert (info.method, info.num_tuned, set(info.num_visual)) == ("linear", 0, {0})
    assert info.num_head > 0


def test_patch_initialisation_takes_training_images(tmp_path: Path) -> None:
    task = load_task(write_task(tmp_path / "shapes"))
    still = TrainConfig(epochs=1, lr=0.0)
    made = {}
    for init, kv_init in (("uniform", "kaiming"), ("patch", "patch")):
        prompts = PromptConfig(num_visual=2, num_kv=1, init=init, kv_init=kv_init)  # type: ignore[arg-type]
        config = dataclasses.replace(CONFIG, prompts=prompts, train=still)
        made[init] = train_run(task, config, tmp_path / init).model
    uniform, patch = (made[name].blocks[1].attn.prompts for name in ("uniform", "patch"))  # type: ignore[index, union-attr]
    sizes = {
        name: p.visual.detach().square().mean(-1).sqrt()
        for name, p in (("uniform", uniform), ("patch", patch))
    }
    assert float(sizes["patch"].std()) < 1e-6 < 1e-3 < float(sizes["uniform"].std())
    assert not patch.key.allclose(uniform.key)


def test_a_run_in_the_way_is_never_overwritten(tmp_path: Path) -> None:
    task = load_task(write_task(tmp_path / "shapes"))
    out = tmp_path / "run"
    train_run(task, CONFIG, out)
    before = (out / "adapter.safetensors").read_bytes()
    with pytest.raises(RunError, match="holds a run already"):
        train_run(task, CONFIG, out)
    other = dataclasses.replace(CONFIG, train=TrainConfig(epochs=3, batch_size=8))
    with pytest.raises(RunError, match=r"made with other settings: epochs 2, now 3"):
        train_run(task, other, out, resume=True)
    foreign = load_task(write_images(tmp_path / "other", 6))
    with pytest.raises(RunError, match=r"other settings: task shapes, now other"):
        train_run(foreign, CONFIG, out, resume=True)
    assert (out / "adapter.safetensors").read_bytes() == before
    train_run(task, CONFIG, out, resume=True)
    assert (out / "adapter.safetensors").read_bytes() == before

    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").touch()
    with pytest.raises(RunError, match="exists and is not a run"):
        train_run(task, CONFIG, tmp_path / "photos")
    with pytest.raises(RunError, match="Cannot write to"):
        train_run(task, CONFIG, tmp_path / "photos/cat.jpg/run")
    (out / "config.json").write_text("{")
    with pytest.raises(RunError, match=r"config\.json cannot be read"):
        train_run(task, CONFIG, out, resume=True)


def test_a_search_is_not_gone_on_with_as_a_run(tmp_path: Path) -> None:
    open_folder(tmp_path, CONFIG.to_dict() | {"search": {}}, resume=False)
    with pytest.raises(RunError, match=r"it holds a search\. Finish a search with `e2vpt search --resume`"):
        adapter_path(tmp_path)


def test_adapter_path_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no run folder of `e2vpt train`, and holds none"):
        adapter_path(tmp_path)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.json").write_text("{}")
    with pytest.raises(RunError, match=r"its training is not finished.*--resume --out .*begun"):
        adapter_path(tmp_path / "begun")
    with pytest.raises(RunError, match="does not exist; expected an adapter file or a run folder"):
        adapter_path(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="method is 'magic'; expected one of e2vpt, vpt-deep"):
        dataclasses.replace(CONFIG, method="magic")


def test_killed_at_random_steps_and_resumed_gives_the_same_folder(
    tmp_path: Path, e2vpt_command: Command, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    """What was killed is another process; this one knows of it what its folder says."""
    write_task(tmp_path / "shapes", train=12)
    monkeypatch.chdir(tmp_path)
    random.seed(0)
    words = ["train", "shapes", "--backbone", "demo", "--epochs", "8", "--batch-size", "6", "--no-prune"]
    words += ["--dropout", "0.1", "--augment", "randaugment", "--seed", "3", "--out"]
    code, _, err = e2vpt_command(*words, "whole")
    assert code == 0, err
    log = tmp_path / "broken/log.jsonl"
    for epochs in (1, 4):
        killed_process([*words, "broken", *(["--resume"] if log.exists() else [])], log, epochs)
    assert not (tmp_path / "broken/adapter.safetensors").exists()
    code, _, err = e2vpt_command(*words, "broken", "--resume")
    assert code == 0, err
    assert differences(tmp_path / "whole", tmp_path / "broken") == []
