"""The recipe: what it trains, what it leaves, which adapter it keeps, and that a killed one resumes."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.killing import differences, killed_process
from support.tasks_for_tests import write_task

import e2vpt
from e2vpt import DataConfig, PromptConfig, PruneConfig, RunConfig, TrainConfig, load_adapter, read_adapter
from e2vpt.errors import ConfigError, RunError
from e2vpt.files import atomic
from e2vpt.prompting.parts import classifier, tuned_parameters
from e2vpt.pruning.rewinding import snapshot
from e2vpt.runs import recipe, retraining, trying
from e2vpt.runs.prepare import prepare
from e2vpt.runs.recipe import Pruned, train_and_prune
from e2vpt.runs.reporting import Reporting
from e2vpt.runs.run import train_run
from e2vpt.runs.scoring import pairs_to_try

Command = Callable[..., tuple[int, str, str]]
CONFIG = RunConfig(
    backbone="demo",
    prompts=PromptConfig(num_visual=4, num_kv=2),
    train=TrainConfig(epochs=2, batch_size=9, lr=0.01),
)
PRUNE = PruneConfig(finalists=1, tolerance=1.0)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> e2vpt.Task:
    return e2vpt.load_task(write_task(tmp_path_factory.mktemp("data") / "shapes"))


@pytest.fixture(scope="module")
def finished(task: e2vpt.Task, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Pruned, list[str]]:
    """A run of CONFIG and PRUNE, what came of it and what it said; not to be changed."""
    said: list[str] = []
    out = tmp_path_factory.mktemp("finished") / "run"
    return out, train_and_prune(task, CONFIG, PRUNE, out, reporting=Reporting(on_stage=said.append)), said


def table(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "prune/table.csv").read_text().splitlines()))


def test_a_run_with_pruning_explains_itself(finished: tuple[Path, Pruned, list[str]]) -> None:
    out, pruned, said = finished
    assert [text.split()[0] for text in said] == ["trainable", "Training", "Scoring", "Training"]
    assert {path.name for path in (out / "prune").iterdir() if path.is_file()} == {
        "config.json", "scores.safetensors", "table.csv", "kept.svg",
    }  # fmt: skip
    rows = table(out)
    assert [row["stage"] for row in rows] == ["unpruned", "trial", "trial", "trial", "retrained"]
    assert len(rows) == len(pruned.tried) and [row.chosen for row in pruned.tried] == [False] * 4 + [True]
    losses = [float(row["loss"]) for row in rows[1:4]]
    assert losses == sorted(losses) and float(rows[4]["tokens"]) == float(rows[1]["tokens"])

    info = read_adapter(out / "adapter.safetensors")
    assert info.visual_kept == 0.5 == float(rows[4]["kept"])
    assert info.num_tuned == int(rows[4]["num_tuned"]) < int(rows[0]["num_tuned"])
    assert info.bytes == int(rows[4]["bytes"]) < int(rows[0]["bytes"])
    assert info.metrics["val_accuracy"] == float(rows[4]["accuracy"])
    assert (out / "unpruned.safetensors").stat().st_size == int(rows[0]["bytes"])
    loaded, _ = load_adapter(out / "adapter.safetensors")
    for (name, a), (_, b) in zip(
        loaded.state_dict().items(), pruned.trained.model.state_dict().items(), strict=True
    ):
        assert a.equal(b), name
    assert pruned.trained.adapter == out / "adapter.safetensors"


def test_the_first_training_is_that_of_a_run_without_pruning(
    task: e2vpt.Task, finished: tuple[Path, Pruned, list[str]], tmp_path: Path
) -> None:
    train_run(task, CONFIG, tmp_path / "plain")
    plain = (tmp_path / "plain/adapter.safetensors").read_bytes()
    assert (finished[0] / "unpruned.safetensors").read_bytes() == plain


@pytest.mark.parametrize(
    ("rewind", "with_head"), [("initial", False), ("initial", True), ("fresh", False), ("none", False)]
)
def test_survivors_start_again_where_they_were_asked_to(
    rewind: Any, with_head: bool, task: e2vpt.Task, tmp_path: Path
) -> None:
    seen: list[e2vpt.pruning.Snapshot] = []
    config = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, epochs=1))
    origin = snapshot(prepare(task, config).model)
    out = tmp_path / "run"
    prune = dataclasses.replace(PRUNE, rewind=rewind, rewind_head=with_head, keep_tokens=(0.5,))
    with pytest.MonkeyPatch.context() as patch:
        real = recipe.train_into

        def watched(prepared: Any, folder: Path, **options: Any) -> Any:
            seen.append(snapshot(prepared.model))
            return real(prepared, folder, **options)

        for module in (recipe, retraining):
            patch.setattr(module, "train_into", watched)
        pruned = train_and_prune(task, config, prune, out)
    start = seen[1].layers[0]["visual"]
    assert start is not None
    kept, all_of_them = (
        sum(len(layer["visual"]) for layer in shot.layers if layer["visual"] is not None)
        for shot in (seen[1], origin)
    )
    assert kept == all_of_them / 2
    whole, _ = load_adapter(out / "unpruned.safetensors")
    trained = e2vpt.prompt_layers(whole)[0].visual
    first = origin.layers[0]["visual"]
    assert first is not None and trained is not None
    among = {"initial": first, "none": trained}
    for name, values in among.items():
        held = all(any(row.equal(other) for other in values) for row in start)
        assert held == (name == rewind), name
    others = {name: p.detach() for name, p in tuned_parameters(whole).items()}
    ends = (origin.head, origin.beside) if with_head else (classifier(whole).state_dict(), others)
    for found, expected in zip((seen[1].head, seen[1].beside), ends, strict=True):
        assert found and all(tensor.equal(expected[name]) for name, tensor in found.items())
    assert not any(tensor.equal(origin.head[name]) for name, tensor in classifier(whole).state_dict().items())
    assert pruned.tried[-1].kept == 0.5


def test_unpruned_prompts_stay_where_pruned_ones_are_worse(
    task: e2vpt.Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = trying.evaluate
    scored = iter([0.9, 0.5, 0.5, 0.5, 0.8, 0.9, 0.5, 0.5, 0.5, 0.8])

    def evaluate(*args: Any, **options: Any) -> Any:
        return dataclasses.replace(real(*args, **options), accuracy=next(scored))

    monkeypatch.setattr(trying, "evaluate", evaluate)
    strict = train_and_prune(task, CONFIG, dataclasses.replace(PRUNE, tolerance=0.05), tmp_path / "strict")
    assert [row.chosen for row in strict.tried] == [True] + [False] * 4
    adapter = (tmp_path / "strict/adapter.safetensors").read_bytes()
    assert adapter == (tmp_path / "strict/unpruned.safetensors").read_bytes()
    assert e2vpt.prompt_layers(strict.trained.model)[0].num_visual == 4
    lax = train_and_prune(task, CONFIG, dataclasses.replace(PRUNE, tolerance=0.15), tmp_path / "lax")
    assert [row.chosen for row in lax.tried] == [False] * 4 + [True]


def test_without_validation_images_one_pruning_is_trained_and_kept(task: e2vpt.Task, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, data=DataConfig(train_on="train+val"))
    pruned = train_and_prune(task, config, dataclasses.replace(PRUNE, finalists=3), tmp_path / "run")
    assert [row.stage for row in pruned.tried if row.epochs] == ["unpruned", "retrained"]
    assert pruned.tried[-1].chosen
    assert set(read_adapter(tmp_path / "run/adapter.safetensors").metrics) == {"epoch"}


def test_pairs_are_every_way_to_keep_a_share_or_those_asked_for() -> None:
    model = e2vpt.prompt(e2vpt.load_backbone("demo", num_classes=3), PromptConfig(num_visual=4))
    assert pairs_to_try(PruneConfig(keep=0.5), model) == [(0.5, 1.0), (0.75, 2 / 3), (1.0, 0.5)]
    assert pairs_to_try(PruneConfig(keep=0.1), model)[0] == (0.25, 0.4)
    assert pairs_to_try(PruneConfig(keep=1.0), model) == [(1.0, 1.0)]
    asked = PruneConfig(keep_tokens=(0.5, 0.25), keep_segments=(0.5,))
    assert pairs_to_try(asked, model) == [(0.5, 0.5), (0.25, 0.5)]
    assert pairs_to_try(PruneConfig(keep_segments=(0.5, 0.9)), model) == [(1.0, 0.5), (1.0, 0.9)]


def test_pruning_key_value_prompts_and_blocks_of_their_own(task: e2vpt.Task, tmp_path: Path) -> None:
    prune = PruneConfig(keep_kv=0.5, masks="per-block", layout="contiguous", finalists=1, tolerance=1.0)
    train_and_prune(task, CONFIG, prune, tmp_path / "run")
    info = read_adapter(tmp_path / "run/adapter.safetensors")
    assert sum(info.num_kv) == 6 and info.visual_kept == pytest.approx(0.5, abs=0.03)
    assert min(info.num_visual) >= 1


def test_settings_in_the_way_are_said(
    task: e2vpt.Task, finished: tuple[Path, Pruned, list[str]], tmp_path: Path
) -> None:
    shutil.copytree(finished[0], tmp_path / "run")
    before = (tmp_path / "run/adapter.safetensors").read_bytes()
    with pytest.raises(RunError, match="holds a run already"):
        train_and_prune(task, CONFIG, PRUNE, tmp_path / "run")
    other = dataclasses.replace(PRUNE, keep=0.3, num_segments=8)
    with pytest.raises(
        RunError, match=r"prune was made with other settings: keep 0.5, now 0.3; num_segments 16, now 8"
    ):
        train_and_prune(task, CONFIG, other, tmp_path / "run", resume=True)
    train_and_prune(task, CONFIG, PRUNE, tmp_path / "run", resume=True)
    assert (tmp_path / "run/adapter.safetensors").read_bytes() == before
    scores = tmp_path / "run/prune/scores.safetensors"
    scores.write_bytes(scores.read_bytes()[:100])
    with pytest.raises(RunError, match=r"scores.safetensors is damaged.*delete it"):
        train_and_prune(task, CONFIG, PRUNE, tmp_path / "run", resume=True)
    (tmp_path / "run/prune/config.json").write_text("{")
    with pytest.raises(RunError, match=r"prune/config.json cannot be read"):
        train_and_prune(task, CONFIG, PRUNE, tmp_path / "run", resume=True)
    bare = dataclasses.replace(CONFIG, prompts=PromptConfig(num_visual=0))
    with pytest.raises(ConfigError, match="no visual prompts"):
        train_and_prune(task, bare, PRUNE, tmp_path / "bare")
    with pytest.raises(ConfigError, match="7 segments do not divide"):
        train_and_prune(task, CONFIG, dataclasses.replace(PRUNE, num_segments=7), tmp_path / "bare")
    assert not list(tmp_path.joinpath("bare").rglob("*.json")), "nothing stands in the way of the next start"


def test_killed_while_training_again_and_resumed_gives_the_same_bytes(
    tmp_path: Path, e2vpt_command: Command, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    write_task(tmp_path / "shapes", train=12)
    monkeypatch.chdir(tmp_path)
    random.seed(1)
    words = ["train", "shapes", "--backbone", "demo", "--epochs", "5", "--batch-size", "6", "--seed", "3"]
    words += ["--keep-tokens", "0.5", "--tolerance", "1", "--out"]
    code, _, err = e2vpt_command(*words, "whole")
    assert code == 0, err
    killed_process([*words, "broken"], tmp_path / "broken/prune/0.500-1.000/log.jsonl", 2)
    code, _, err = e2vpt_command(*words, "broken", "--resume")
    assert code == 0, err
    assert differences(tmp_path / "whole", tmp_path / "broken") == []


def test_a_kill_at_any_write_leaves_a_run_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    """Each write in turn is cut off half-way; every other time because the disk is full."""
    data = write_task(tmp_path / "data", train=1, val=1, test=1)
    settings = {"epochs": 1, "keep_tokens": (0.5,), "num_visual": 2, "tolerance": 1.0, "verbose": False}
    whole, out = tmp_path / "whole", tmp_path / "run"
    real, writes, wanted = atomic._write, 0, 0

    def cut_off(path: Path, content: bytes, put: Callable[[Path, Path], object]) -> None:
        nonlocal writes
        writes += 1
        if writes != wanted:
            return real(path, content, put)
        if wanted % 2:
            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", lambda _: full_disk())
                real(path, content, put)
        (path.parent / f".{path.name}.0123456789ab.tmp").write_bytes(content[: len(content) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic, "_write", cut_off)
    e2vpt.train(data, "demo", whole, **settings)  # type: ignore[arg-type]
    for wanted in range(1, writes + 1):
        writes = 0
        with pytest.raises((RunError, KeyboardInterrupt)):
            e2vpt.train(data, "demo", out, **settings)  # type: ignore[arg-type]
        begun = (out / "config.json").exists()
        again = (
            {"resume": True, "verbose": False} if begun else {"source": data, "backbone": "demo"} | settings
        )
        e2vpt.train(out=out, **again)  # type: ignore[arg-type]
        assert differences(whole, out) == [], f"write {wanted}"
        shutil.rmtree(out)
    assert wanted > 15


def full_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_the_picture_shows_what_survived(task: e2vpt.Task, tmp_path: Path) -> None:
    train_and_prune(
        task, CONFIG, dataclasses.replace(PRUNE, keep_tokens=(0.5,), keep_segments=(0.5,)), tmp_path / "run"
    )
    drawn = (tmp_path / "run/prune/kept.svg").read_text()
    model, _ = load_adapter(tmp_path / "run/adapter.safetensors")
    kept = sum(int(layer.keep.sum()) for layer in e2vpt.prompt_layers(model)) // (128 // 16)
    assert drawn.count('fill="#1f4e79"') == kept
    assert drawn.count("block ") == 6 and "25% of their elements kept" in drawn
    assert json.loads((tmp_path / "run/prune/config.json").read_text())["keep_tokens"] == [0.5]
    assert torch.isfinite(model(torch.zeros(1, 3, 32, 32))).all()
