"""A search: what it tries, what it leaves, and that a killed one ends where an uninterrupted one does."""

from __future__ import annotations

import csv
import dataclasses
import random
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.killing import differences, killed_process
from support.tasks_for_tests import write_images, write_task
from support.weights_for_tests import other_demo_weights

import e2vpt
from e2vpt import DataConfig, PromptConfig, RunConfig, TrainConfig, read_adapter
from e2vpt.config import SearchConfig
from e2vpt.errors import ConfigError, MissingExtra, RunError, UnsupportedBackbone
from e2vpt.runs.folders.lock import only_one
from e2vpt.runs.reporting import Reporting
from e2vpt.search.here import search_here
from e2vpt.search.on_cluster import search_on_cluster
from e2vpt.search.space import Stop, TrialResult, configured, ranked, try_suggestion

Command = Callable[..., tuple[int, str, str]]
BASE = RunConfig(backbone="demo", train=TrainConfig(epochs=2, batch_size=9))
SEARCH = SearchConfig(trials=3, visual_choices=(2, 4), kv_choices=(1,), keep_choices=(1.0, 0.5))
TRIED = {"lr": 0.01, "weight_decay": 0.001, "num_visual": 4, "num_kv": 1, "init": "patch", "keep": 0.5}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> e2vpt.Task:
    return e2vpt.load_task(write_task(tmp_path_factory.mktemp("data") / "shapes"))


@pytest.fixture(scope="module")
def once(
    task: e2vpt.Task, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[TrialResult], list[str]]:
    """A finished search of BASE and SEARCH, what it found and said; not to be changed."""
    said: list[str] = []
    out = tmp_path_factory.mktemp("once") / "search"
    return out, search_here(task, BASE, out, search=SEARCH, reporting=Reporting(on_stage=said.append)), said


def table(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "trials.csv").read_text().splitlines()))


def test_a_search_explains_itself(once: tuple[Path, list[TrialResult], list[str]]) -> None:
    out, results, said = once
    assert len(results) == 3 and results == ranked(results)
    assert [text.split(":")[0] for text in said] == [f"Trial {n} of 3" for n in (1, 2, 3)]
    assert "best so far" not in said[0] and "best so far" in said[1]
    rows = table(out)
    assert [row["name"] for row in rows] == [r.name for r in results]
    assert {row["name"] for row in rows} == {"000", "001", "002"}
    best = results[0]
    assert (out / "adapter.safetensors").read_bytes() == (
        out / f"trial-{best.name}/adapter.safetensors"
    ).read_bytes()
    for r in results:
        config = e2vpt.runs.folders.run_config.saved_run_config(out / f"trial-{r.name}")
        assert (config.train.lr, config.prompts.num_visual, config.prompts.init) == (
            r.lr,
            r.num_visual,
            r.init,
        )
        assert SEARCH.lr_range[0] <= r.lr <= SEARCH.lr_range[1] and r.num_visual in (2, 4)
        info = read_adapter(out / f"trial-{r.name}/adapter.safetensors")
        assert info.visual_kept == r.keep and info.metrics["val_accuracy"] == r.accuracy
        assert r.epochs == (2 if r.keep == 1 else 4)


def test_more_trials_may_be_asked_for_and_the_first_stay(
    task: e2vpt.Task, once: tuple[Path, list[TrialResult], list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "search"
    few = search_here(task, BASE, out, search=dataclasses.replace(SEARCH, trials=1))
    more = search_here(task, BASE, out, search=SEARCH, resume=True)
    assert few[0] in more and len(more) == 3
    assert more == once[1]
    with pytest.raises(RunError, match=r"made with other settings: search_seed 0, now 1"):
        search_here(task, BASE, out, search=dataclasses.replace(SEARCH, search_seed=1), resume=True)
    other = search_here(
        task, BASE, tmp_path / "other", search=dataclasses.replace(SEARCH, trials=1, search_seed=1)
    )
    assert other[0].lr != few[0].lr


def test_images_are_decoded_once_for_all_trials(
    task: e2vpt.Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    kind = type(task.train.images[0])
    real = kind.open

    def counted(self: Any, *args: Any) -> Any:
        opened.append(1)
        return real(self, *args)

    monkeypatch.setattr(kind, "open", counted)
    search = dataclasses.replace(SEARCH, inits="uniform", keep_choices=(1.0, 0.5))
    search_here(task, BASE, tmp_path / "search", search=search)
    assert task.val is not None
    assert len(opened) == len(task.train) + len(task.val)


def test_a_poor_trial_is_stopped_and_says_so(task: e2vpt.Task, tmp_path: Path) -> None:
    heard: list[TrialResult] = []

    def on_epoch(so_far: TrialResult) -> None:
        heard.append(so_far)
        if so_far.epochs == 3:  # the first epoch of the second training
            raise Stop

    result = try_suggestion(task, BASE, e2vpt.PruneConfig(), TRIED, tmp_path / "trial-7", on_epoch=on_epoch)
    assert (result.name, result.state, result.epochs) == ("7", "stopped", 3)
    assert result == heard[-1]
    heard.clear()
    again = try_suggestion(task, BASE, e2vpt.PruneConfig(), TRIED, tmp_path / "trial-7", on_epoch=on_epoch)
    assert again == result and [so_far.epochs for so_far in heard] == [1, 2, 3]


def test_a_trial_that_diverges_ranks_last(task: e2vpt.Task, tmp_path: Path) -> None:
    base = dataclasses.replace(BASE, train=dataclasses.replace(BASE.train, optimizer="sgd"))
    result = try_suggestion(task, base, e2vpt.PruneConfig(), TRIED | {"lr": 1e30}, tmp_path / "trial-a")
    assert (result.state, result.accuracy) == ("diverged", 0.0)
    stopped = dataclasses.replace(result, name="b", state="stopped", accuracy=0.9, loss=0.1)
    good = dataclasses.replace(result, name="c", state="complete", accuracy=0.5, loss=0.5)
    better = dataclasses.replace(good, name="d", loss=0.4)
    assert [r.name for r in ranked([result, stopped, good, better])] == ["d", "c", "b", "a"]
    search = SearchConfig(trials=1, lr_range=(1e30, 1e30), keep_choices=(1.0,))
    with pytest.raises(RunError, match=r"No trial of .* is complete: all diverged"):
        search_here(task, base, tmp_path / "search", search=search)


def test_a_trial_changes_only_what_it_tries() -> None:
    config = configured(BASE, TRIED)
    assert config.train == dataclasses.replace(BASE.train, lr=0.01, weight_decay=0.001)
    assert config.prompts == PromptConfig(num_visual=4, num_kv=1, init="patch", kv_init="patch")
    assert dataclasses.replace(config, train=BASE.train, prompts=BASE.prompts) == BASE
    assert {field.name for field in dataclasses.fields(TrialResult)} >= set(TRIED)


@pytest.mark.parametrize(("module", "extra"), [("optuna", "search"), ("ray", "ray")])
def test_a_missing_engine_is_said_with_the_command_that_installs_it(
    module: str, extra: str, task: e2vpt.Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    search = search_here if module == "optuna" else search_on_cluster
    with pytest.raises(MissingExtra, match=rf"pip install 'e2vpt\[{extra}\]'"):
        search(task, BASE, tmp_path / "search", search=SEARCH)
    assert not (tmp_path / "search").exists()


def test_it_needs_validation_images(tmp_path: Path) -> None:
    write_images(tmp_path / "only/train", 4)
    task = e2vpt.load_task(tmp_path / "only", DataConfig(val_fraction=0))
    with pytest.raises(ConfigError, match="compares validation accuracies"):
        search_here(task, BASE, tmp_path / "search", search=SEARCH)
    assert not (tmp_path / "search").exists()


def test_what_a_search_is_made_of_is_held(task: e2vpt.Task, tmp_path: Path) -> None:
    one = dataclasses.replace(SEARCH, trials=1, keep_choices=(1.0,))
    search_here(task, BASE, tmp_path / "search", search=one)
    assert task.val is not None
    fewer = dataclasses.replace(task, val=task.val.subset(range(len(task.val) - 1)))
    with pytest.raises(RunError, match=r"made with other images: 1 gone"):
        search_here(fewer, BASE, tmp_path / "search", search=one, resume=True)
    weights = other_demo_weights(tmp_path / "other.safetensors")
    other = dataclasses.replace(BASE, weights=str(weights))
    with pytest.raises(
        RunError, match=r"made with other settings: weights with fingerprint \w{12}, now \w{12}"
    ):
        search_here(task, other, tmp_path / "search", search=one, resume=True)


def test_a_second_process_is_told(task: e2vpt.Task, tmp_path: Path) -> None:
    with only_one(tmp_path / "search"), pytest.raises(RunError, match="Another process works in"):
        search_here(task, BASE, tmp_path / "search", search=SEARCH)


def test_a_damaged_study_is_named(task: e2vpt.Task, tmp_path: Path) -> None:
    one, study = dataclasses.replace(SEARCH, trials=1, keep_choices=(1.0,)), tmp_path / "search/study.db"
    search_here(task, BASE, tmp_path / "search", search=one)
    whole = study.read_bytes()
    with sqlite3.connect(study) as database:
        database.execute("UPDATE trial_user_attributes SET value_json = '{\"name\": 1}'")
    database.close()
    renamed = study.read_bytes()
    for content in (b"no database", whole[:4096], whole[:6000] + b"\xff" * (len(whole) - 6000), renamed):
        study.write_bytes(content)
        with pytest.raises(RunError, match=r"study\.db cannot be read or written \(.*\)\. Where the"):
            search_here(task, BASE, tmp_path / "search", search=one, resume=True)


def test_an_adapter_that_is_gone_is_named(task: e2vpt.Task, tmp_path: Path) -> None:
    one, out = dataclasses.replace(SEARCH, trials=1, keep_choices=(1.0,)), tmp_path / "search"
    search_here(task, BASE, out, search=one)
    (out / "trial-000/adapter.safetensors").unlink()
    with pytest.raises(RunError, match=r"trial-000/adapter\.safetensors cannot be read \(No such file"):
        search_here(task, BASE, out, search=one, resume=True)


def test_what_does_not_fit_is_found_before_anything_is_written(task: e2vpt.Task, tmp_path: Path) -> None:
    wrong = dataclasses.replace(BASE, backbone="resnet18")
    with pytest.raises(UnsupportedBackbone):
        search_here(task, wrong, tmp_path / "search", search=SEARCH)
    assert not (tmp_path / "search").exists()


def test_killed_in_the_middle_and_resumed_ends_with_the_same_trials(
    tmp_path: Path, e2vpt_command: Command, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    write_task(tmp_path / "shapes", train=12)
    monkeypatch.chdir(tmp_path)
    random.seed(2)
    words = ["search", "shapes", "--backbone", "demo", "--epochs", "3", "--batch-size", "9"]
    words += ["--trials", "4", "--visual-choices", "2,4", "--out"]
    code, _, err = e2vpt_command(*words, "whole")
    assert code == 0, err
    for trial in ("001", "002"):
        killed_process([*words, "broken", "--resume"], tmp_path / f"broken/trial-{trial}/log.jsonl", 1)
    code, _, err = e2vpt_command(*words, "broken", "--resume")
    assert code == 0, err
    assert differences(tmp_path / "whole", tmp_path / "broken") == []
