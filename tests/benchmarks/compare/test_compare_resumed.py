"""A comparison that is gone on with: what would put two recipes of a method in one row is refused at once."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from support.tasks_for_tests import write_task

import e2vpt
from e2vpt import PromptConfig, PruneConfig, RunConfig, TrainConfig
from e2vpt.benchmarks.compare.compare import Comparison, compare_methods
from e2vpt.benchmarks.compare.entries import ComparedMethod
from e2vpt.benchmarks.compare.trial import ComparisonRow, Trial
from e2vpt.config.fields import to_dict
from e2vpt.errors import RunError
from e2vpt.files.atomic import write_json_lines

LINEAR = ComparedMethod(method="linear", lrs=(0.01, 0.001))
OURS = ComparedMethod(method="e2vpt", lrs=(0.01,), prunes=True)


@pytest.fixture
def comparison(tmp_path: Path) -> Comparison:
    return Comparison(
        tasks={"one": e2vpt.load_task(write_task(tmp_path / "one"))},
        config=RunConfig(
            backbone="demo", prompts=PromptConfig(num_visual=4), train=TrainConfig(epochs=1, batch_size=9)
        ),
        entries={"linear": LINEAR},
        tune_on=("one",),
        prune=PruneConfig(num_segments=4),
        seeds=1,
    )


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Trial]:
    """What would be trained; nothing is, but the pruning that was asked for stands in its folder."""
    trials: list[Trial] = []

    def record(trial: Trial, _: Any, config: RunConfig, prune: Any, out: Path, *others: Any) -> ComparisonRow:
        trials.append(trial)
        if prune is not None:
            folder = out / trial.folder / "prune"
            folder.mkdir(parents=True)
            (folder / "config.json").write_text(json.dumps(to_dict(prune)))
        better = {"val_accuracy": 0.5 + trial.lr, "diverged": False}
        figures = dict.fromkeys(("accuracy", "images_per_second", "peak_mib"), 0.5)
        return trial.row() | better | figures | {"num_tuned": 1, "num_head": 1, "adapter_bytes": 1}

    monkeypatch.setattr("e2vpt.benchmarks.compare.compare.run_trial", record)
    return trials


def with_entry(comparison: Comparison, entry: ComparedMethod, **changed: Any) -> Comparison:
    return dataclasses.replace(comparison, entries={"linear": entry}, **changed)


def test_a_rate_that_was_given_has_to_be_given_again(
    comparison: Comparison, trained: list[Trial], tmp_path: Path
) -> None:
    """Even where it is one of those that would be tried: another one might be chosen."""
    compare_methods(with_entry(comparison, dataclasses.replace(LINEAR, lrs=(0.001,))), tmp_path / "out")
    assert [trial.stage for trial in trained] == ["final"]
    with pytest.raises(
        RunError,
        match=r"linear was compared with rate 0\.001, now it would be chosen from 0\.01, 0\.001\. "
        r"Give its rate as before \(--rates linear=0\.001\)",
    ):
        compare_methods(comparison, tmp_path / "out", resume=True)
    assert len(trained) == 1, "refused before anything is tuned"


def test_a_rate_that_was_given_instead_of_the_chosen_one(
    comparison: Comparison, trained: list[Trial], tmp_path: Path
) -> None:
    compare_methods(comparison, tmp_path / "out")
    assert [trial.lr for trial in trained] == [0.01, 0.001, 0.01]
    # As chosen: its finals go on without a word.
    compare_methods(with_entry(comparison, LINEAR, seeds=2), tmp_path / "out", resume=True)
    fixed = dataclasses.replace(LINEAR, lrs=(0.01,))
    compare_methods(with_entry(comparison, fixed, seeds=3), tmp_path / "out", resume=True)
    assert len(trained) == 5
    rows = [trial.row() | {"val_accuracy": 0.5, "diverged": False} for trial in trained[:2]]
    rows += [trained[2].row() | {"lr": 0.001, "diverged": True}]
    write_json_lines(tmp_path / "out/trials.jsonl", rows)
    compare_methods(comparison, tmp_path / "out", resume=True)  # a tie goes to the smaller rate, its own
    write_json_lines(tmp_path / "out/trials.jsonl", [rows[0] | {"val_accuracy": 0.6}, *rows[1:]])
    with pytest.raises(RunError, match=r"linear was compared with rate 0\.001, now 0\.01"):
        compare_methods(comparison, tmp_path / "out", resume=True)


def test_other_pruning_of_a_row_is_refused(
    comparison: Comparison, trained: list[Trial], tmp_path: Path
) -> None:
    before = with_entry(comparison, OURS)
    compare_methods(before, tmp_path / "out")
    assert len(compare_methods(dataclasses.replace(before, seeds=2), tmp_path / "out", resume=True)) == 2
    own = dataclasses.replace(OURS, pruning={"masks": "shared", "rewind_head": True})
    with pytest.raises(RunError, match=r"other pruning: masks per-block, now shared; rewind_head False, now"):
        compare_methods(with_entry(comparison, own), tmp_path / "out", resume=True)
    assert len(trained) == 2
