"""Methods beside each other: equal effort, rates chosen on validation images, no training done twice."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.tasks_for_tests import write_task
from support.weights_for_tests import other_demo_weights

import e2vpt
from e2vpt import PromptConfig, PruneConfig, RunConfig, TrainConfig
from e2vpt.benchmarks.compare.compare import Comparison, chosen_lr, compare_methods
from e2vpt.benchmarks.compare.entries import ENTRIES, ComparedMethod, config_of
from e2vpt.benchmarks.compare.report import write_comparison
from e2vpt.benchmarks.compare.trial import read_trials
from e2vpt.errors import ConfigError, RunError, UnsupportedBackbone
from e2vpt.methods.names import METHODS, prompts_of
from e2vpt.runs.folders.lock import only_one
from e2vpt.runs.reporting import Reporting

ENTRIES_HERE = {
    "linear": ComparedMethod(method="linear", lrs=(0.01, 0.001)),
    "ours": ComparedMethod(
        method="e2vpt", lrs=(0.01,), prompts={"share_kv": False}, options={"beside": "bias"}, prunes=True
    ),
}


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    data = tmp_path_factory.mktemp("data")
    tasks = {name: e2vpt.load_task(write_task(data / name)) for name in ("one", "two")}
    return Comparison(
        tasks=tasks,
        config=RunConfig(
            backbone="demo",
            prompts=PromptConfig(num_visual=4, num_kv=2),
            train=TrainConfig(epochs=1, batch_size=9),
        ),
        entries=ENTRIES_HERE,
        tune_on=("one",),
        prune=PruneConfig(num_segments=4, tolerance=1.0),
        seeds=2,
    )


@pytest.fixture(scope="module")
def whole(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """Where the comparison was made, and its rows; not to be changed."""
    out = tmp_path_factory.mktemp("whole") / "out"
    return out, compare_methods(comparison, out)


def without_times(rows: list[Any]) -> list[dict[str, Any]]:
    clock = {"seconds", "images_per_second", "peak_mib"}
    return [{name: value for name, value in row.items() if name not in clock} for row in rows]


def tuned(method: str, lr: float, task: str, accuracy: float) -> dict[str, Any]:
    return {"stage": "tuning", "method": method, "lr": lr, "task": task, "val_accuracy": accuracy}


def test_one_rate_for_all_tasks_by_mean_accuracy() -> None:
    rows = [
        tuned("a", 0.1, "x", 0.9),
        tuned("a", 0.1, "y", 0.1),
        tuned("a", 0.2, "x", 0.6),
        tuned("a", 0.2, "y", 0.6),
    ]
    assert chosen_lr(rows, "a") == 0.2
    assert chosen_lr([tuned("a", 0.2, "x", 0.5), tuned("a", 0.1, "x", 0.5)], "a") == 0.1


def test_every_method_has_three_rates() -> None:
    assert {len(set(entry.lrs)) for entry in ENTRIES.values()} == {3}
    assert {entry.method for entry in ENTRIES.values()} == set(METHODS)


def test_tuning_then_finals_and_a_report(
    comparison: Comparison, whole: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    out, rows = whole
    # One rate leaves nothing to choose.
    assert len(rows) == comparison.num_trainings() == 2 + 2 * 2 * 2
    assert [(r["stage"], r["method"]) for r in rows[:3]] == [("tuning", "linear")] * 2 + [("final", "linear")]
    assert all("accuracy" not in r for r in rows[:2])
    best = chosen_lr(rows, "linear")
    final = [r for r in rows if r["stage"] == "final"]
    assert {r["lr"] for r in final if r["method"] == "linear"} == {best}
    assert {(r["method"], r["num_tuned"] > 0) for r in final} == {("linear", False), ("ours", True)}
    write_comparison(tmp_path, rows, {"command": "e2vpt compare"})
    saved = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text())))
    assert len(saved) == 8
    needed = {"task", "method", "seed", "accuracy", "num_tuned", "num_head", "adapter_bytes"}
    assert needed <= set(saved[0]) and all(saved[0][name] for name in needed)
    adapter = out / "final/linear/one-seed0/adapter.safetensors"
    assert int(saved[0]["adapter_bytes"]) == adapter.stat().st_size
    assert len((tmp_path / "tuning.csv").read_text().splitlines()) == 3
    text = (tmp_path / "results.md").read_text()
    assert final[0]["peak_mib"] > 0 and final[0]["images_per_second"] > 0
    assert text.count("\n| ours |") == 1 and "* command: e2vpt compare" in text
    with Image.open(tmp_path / "pareto.png") as image:
        assert image.width > 600


def test_what_is_finished_is_not_run_again(
    comparison: Comparison, whole: tuple[Path, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, done, stops = e2vpt.benchmarks.compare.trial.train_run, [], {2, 6}

    def stopping(*args: Any, **options: Any) -> Any:
        done.append(args[2])
        if len(done) in stops:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(e2vpt.benchmarks.compare.trial, "train_run", stopping)
    for resume in (False, True):
        with pytest.raises(KeyboardInterrupt):
            compare_methods(comparison, tmp_path / "broken", resume=resume)
    rows = compare_methods(comparison, tmp_path / "broken", resume=True)
    assert without_times(rows) == without_times(whole[1])
    done.clear()
    stops.clear()
    assert compare_methods(comparison, tmp_path / "broken", resume=True) == rows and not done
    # More methods and seeds may come later; other settings may not.
    more = dataclasses.replace(comparison, seeds=3)
    assert len(compare_methods(more, tmp_path / "broken", resume=True)) == len(rows) + 4
    other = dataclasses.replace(
        comparison, config=dataclasses.replace(comparison.config, train=TrainConfig(epochs=2, batch_size=9))
    )
    with pytest.raises(RunError, match=r"other settings: epochs 1, now 2"):
        compare_methods(other, tmp_path / "broken", resume=True)


def test_a_training_that_was_gone_on_with_has_no_time(
    comparison: Comparison, whole: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    def stop(report: Any) -> None:
        if report.epoch == 2:
            raise KeyboardInterrupt

    entry = dataclasses.replace(ENTRIES_HERE["linear"], lrs=(0.01,))
    config = dataclasses.replace(comparison.config, train=TrainConfig(epochs=2, batch_size=9))
    one = dataclasses.replace(comparison, config=config, entries={"linear": entry}, seeds=1)
    with pytest.raises(KeyboardInterrupt):
        compare_methods(one, tmp_path / "out", reporting=Reporting(on_step=stop))
    rows = compare_methods(one, tmp_path / "out", resume=True)
    assert [row["seconds"] is None for row in rows] == [True, False]
    assert read_trials(tmp_path / "out" / "trials.jsonl") == rows
    assert all(row["seconds"] > 0 for row in whole[1] if row["stage"] == "final")
    assert f"| {rows[1]['seconds']:,.0f} |" in write_comparison(tmp_path / "out", rows, {})


def test_finals_on_all_images_prune_as_validation_images_chose(
    comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VTAB-1k: settings are chosen on 800 and 200 images, the last training has all 1000."""
    train = dataclasses.replace(comparison.config.train, patience=1)  # not where nothing is left to go by
    comparison = dataclasses.replace(comparison, config=dataclasses.replace(comparison.config, train=train))
    asked: list[tuple[int, PruneConfig]] = []
    real = e2vpt.benchmarks.compare.trial.train_and_prune

    def watching(task: e2vpt.Task, config: RunConfig, prune: PruneConfig, *rest: Any, **options: Any) -> Any:
        asked.append((config.data.train_on == "train+val", prune))
        return real(task, config, prune, *rest, **options)

    monkeypatch.setattr(e2vpt.benchmarks.compare.trial, "train_and_prune", watching)
    entries = {"ours": ENTRIES_HERE["ours"]}
    on_all = dataclasses.replace(comparison, entries=entries, seeds=1, final_on="train+val")
    tuned, *finals = compare_methods(on_all, tmp_path / "out")
    assert on_all.num_trainings() == 3 and tuned["stage"] == "tuning" and tuned["val_accuracy"] is not None
    assert [r["stage"] for r in finals] == ["final"] * 2 and {r["val_accuracy"] for r in finals} == {None}
    assert [was_all for was_all, _ in asked] == [False, True, True]
    for _, prune in asked[1:]:
        assert prune.keep_tokens == (tuned["tokens"],) and prune.keep_segments == (tuned["segments"],)
    assert {(r["tokens"], r["segments"]) for r in finals} == {(tuned["tokens"], tuned["segments"])}
    write_comparison(tmp_path / "out", [tuned, *finals], {})
    assert len((tmp_path / "out/tuning.csv").read_text().splitlines()) == 2


def test_other_images_and_other_weights_are_refused(
    comparison: Comparison, whole: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole[0], out)
    two = comparison.tasks["two"]
    turned = dataclasses.replace(two, val=two.test, test=two.val)
    other = dataclasses.replace(comparison, tasks=comparison.tasks | {"two": turned})
    with pytest.raises(RunError, match=r"tasks/two was made with other images: 21 gone .*, 21 new"):
        compare_methods(other, out, resume=True)
    weights = str(other_demo_weights(tmp_path / "other.safetensors"))
    other = dataclasses.replace(comparison, config=dataclasses.replace(comparison.config, weights=weights))
    with pytest.raises(RunError, match=r"other settings: weights with fingerprint \w{12}, now \w{12}"):
        compare_methods(other, out, resume=True)
    with only_one(out), pytest.raises(RunError, match="Another process works in"):
        compare_methods(comparison, out, resume=True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda row: "{", r"trials\.jsonl cannot be read"),
        (lambda row: "null", r"trials\.jsonl cannot be used: None is no row"),
        (lambda row: json.dumps(row | {"lr": "high"}), "a row has 'high' as lr"),
        (lambda row: json.dumps({k: v for k, v in row.items() if k != "accuracy"}), "a row has no accuracy"),
    ],
)
def test_damaged_trials_are_named(
    damage: Callable[[dict[str, Any]], str], message: str, tmp_path: Path, whole: tuple[Path, list[Any]]
) -> None:
    (tmp_path / "trials.jsonl").write_text(damage(whole[1][-1]) + "\n")
    with pytest.raises(RunError, match=message):
        read_trials(tmp_path / "trials.jsonl")


def test_a_rate_that_diverges_is_a_row(comparison: Comparison, tmp_path: Path) -> None:
    entries = {"linear": ComparedMethod(method="linear", lrs=(1e30, 0.01))}
    rows = compare_methods(dataclasses.replace(comparison, entries=entries, seeds=1), tmp_path / "out")
    assert [r["diverged"] for r in rows] == [True, False, False, False]
    assert chosen_lr(rows, "linear") == 0.01


def test_what_cannot_be_compared_leaves_no_folder(comparison: Comparison, tmp_path: Path) -> None:
    config = dataclasses.replace(comparison.config, backbone="resnet18")
    with pytest.raises(UnsupportedBackbone):
        compare_methods(dataclasses.replace(comparison, config=config), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_process_at_a_time_compares_in_a_folder(comparison: Comparison, tmp_path: Path) -> None:
    with only_one(tmp_path / "out"), pytest.raises(RunError, match="Another process works in"):
        compare_methods(comparison, tmp_path / "out")


def test_bad_comparisons(comparison: Comparison, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Rates are chosen on three; the tasks are one, two"):
        dataclasses.replace(comparison, tune_on=("three",))
    blind = dataclasses.replace(comparison.tasks["one"], test=None)
    with pytest.raises(ConfigError, match="one: a comparison needs validation and test images"):
        dataclasses.replace(comparison, tasks={"one": blind})
    data = dataclasses.replace(comparison.config.data, train_on="train+val")
    with pytest.raises(ConfigError, match="train_on has no effect in a comparison"):
        dataclasses.replace(comparison, config=dataclasses.replace(comparison.config, data=data))


def test_the_papers_rows_have_its_key_value_prompts_or_as_many_as_asked() -> None:
    shared = RunConfig(backbone="demo")
    for name in ("e2vpt-paper", "e2vpt-paper-no-prune", "e2vpt-kv", "kv"):
        for asked, number in ((0, 5), (3, 3)):
            config = dataclasses.replace(shared, prompts=dataclasses.replace(shared.prompts, num_kv=asked))
            made = config_of(config, ENTRIES[name], None, 0)
            prompts = prompts_of(made.method, made.prompts)
            assert prompts is not None and prompts.num_kv == number
    made = config_of(shared, ENTRIES["e2vpt"], None, 0)
    assert made.prompts.num_kv == 0
