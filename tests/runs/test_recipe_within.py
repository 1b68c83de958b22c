"""Pruning within one training: its two parts share a schedule, and a killed run goes on in either."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from support.killing import differences
from support.tasks_for_tests import write_task

import e2vpt
from e2vpt import PromptConfig, PruneConfig, RunConfig, TrainConfig, read_adapter
from e2vpt.errors import ConfigError
from e2vpt.runs.folders.folder import read_log
from e2vpt.runs.recipe import train_and_prune
from e2vpt.runs.reporting import Reporting
from e2vpt.runs.run import train_run

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = RunConfig(
    backbone="demo",
    prompts=PromptConfig(num_visual=4, num_kv=2),
    train=TrainConfig(epochs=5, batch_size=9, lr=0.01),
)
WITHIN = PruneConfig(prune_at=0.5, tolerance=1.0)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> e2vpt.Task:
    return e2vpt.load_task(write_task(tmp_path_factory.mktemp("data") / "shapes"))


def test_both_parts_have_the_rates_of_one_training(task: e2vpt.Task, tmp_path: Path) -> None:
    said: list[str] = []
    done = train_and_prune(task, CONFIG, WITHIN, tmp_path / "run", reporting=Reporting(on_stage=said.append))
    plain = train_run(task, CONFIG, tmp_path / "plain").result.history
    (again,) = (tmp_path / "run/prune").glob("*-*")
    first, then = read_log(tmp_path / "run"), read_log(again)
    assert (len(first), len(then)) == (2, 3)
    assert [row["lr"] for row in (*first, *then)] == [row["lr"] for row in plain]
    assert [row["train_loss"] for row in first] == [row["train_loss"] for row in plain[:2]]
    assert [row.epochs for row in done.tried if row.epochs] == [2, 3]
    assert read_adapter(tmp_path / "run/adapter.safetensors").visual_kept == 0.5
    assert said[1] == "Training with all prompts, epochs 1 to 2 of 5"
    assert said[-1].startswith("Going on with") and said[-1].endswith(", epochs 3 to 5 of 5")


class Killed(Exception):
    """In place of a signal."""


@pytest.mark.parametrize("after", [1, 3])
def test_a_run_that_stopped_goes_on_to_the_same_bytes(task: e2vpt.Task, tmp_path: Path, after: int) -> None:
    train_and_prune(task, CONFIG, WITHIN, tmp_path / "whole")
    rows: list[Any] = []

    def stop(row: Any) -> None:
        rows.append(row)
        if len(rows) == after:
            raise Killed

    with pytest.raises(Killed):
        train_and_prune(task, CONFIG, WITHIN, tmp_path / "stopped", reporting=Reporting(on_epoch=stop))
    train_and_prune(task, CONFIG, WITHIN, tmp_path / "stopped", resume=True)
    assert not differences(tmp_path / "whole", tmp_path / "stopped")


def test_a_run_from_before_there_was_such_a_setting_goes_on(task: e2vpt.Task, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, epochs=1))
    prune = dataclasses.replace(WITHIN, prune_at=1.0)
    train_and_prune(task, config, prune, tmp_path / "run")
    path = tmp_path / "run/prune/config.json"
    saved = json.loads(path.read_text())
    assert saved.pop("prune_at") == 1.0
    path.write_text(json.dumps(saved))
    train_and_prune(task, config, prune, tmp_path / "run", resume=True)


def test_one_epoch_is_refused_before_there_is_a_folder(task: e2vpt.Task, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, epochs=1))
    with pytest.raises(ConfigError, match="two epochs at least"):
        train_and_prune(task, config, WITHIN, tmp_path / "run")
    with pytest.raises(ConfigError, match="two epochs at least"):
        e2vpt.train(".", "demo", tmp_path / "run", epochs=1, prune_at=0.5)
    assert not (tmp_path / "run").exists()
