"""scripts/group_table.py: means by group, and a lead that was not chosen on what it is measured on."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("scripts.group_table")


def flat(script: ModuleType, value: float, **other: float) -> dict[str, float]:
    return dict.fromkeys(script.TASKS, value) | other


def test_means_are_over_tasks_and_a_group_that_lacks_one_has_none(script: Any) -> None:
    by_task = flat(script, 50.0, count8=90.0)
    mean, natural, specialised, structured = script.group_means(by_task)
    assert mean == pytest.approx(50 + 40 / 14)
    assert (natural, specialised, structured) == (50, 50, 60)
    del by_task["count8"]
    assert script.group_means(by_task) == [None, 50, 50, None]


def test_rows_of_both_kinds_are_read_and_seeds_are_averaged(script: Any) -> None:
    ideas = [{"task": "dtd10", "variant": "a", "best": best} for best in (0.5, 0.7)]
    compare = [
        {"task": "dtd10", "method": "lora", "stage": "tuning", "val_accuracy": 0.9},
        {"task": "dtd10", "method": "lora", "stage": "final", "val_accuracy": 0.8, "accuracy": 0.4},
        {"task": "dtd10", "method": "full", "stage": "final", "val_accuracy": 0.0, "diverged": True},
    ]
    assert script.accuracies(ideas, "val") == {"a": {"dtd10": pytest.approx(60)}}
    assert script.accuracies(compare, "test") == {"lora": {"dtd10": 40}, "full": {"dtd10": 0}}


def test_a_variant_that_is_best_on_one_task_only_is_not_chosen_for_it(script: Any) -> None:
    scores = {"steady": flat(script, 60.0), "lucky": flat(script, 59.0, count8=80.0)}
    assert script.best_of(scores, list(scores), script.TASKS) == "lucky"
    assert script.left_out_mean(scores, list(scores)) == pytest.approx((13 * 59 + 60) / 14)


def test_the_verdict_names_the_best_peer_and_both_leads(
    script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"task": task, "variant": name, "best": best, "epochs": 12}
        for task in script.TASKS
        for name, best in [("ours", 0.8), ("lora 1", 0.7), ("lora 2", 0.75), ("bias", 0.6)]
    ]
    path, families = tmp_path / "rows.jsonl", tmp_path / "families.json"
    path.write_text("\n".join(map(json.dumps, rows)))
    families.write_text(json.dumps({"e2vpt": ["ours"], "lora": ["lora 1", "lora 2"], "bias": ["bias"]}))
    words = ["x", str(path), "--figure", "val", "--ours", "e2vpt", "--families", str(families)]
    monkeypatch.setattr("sys.argv", words)
    script.main()
    printed = capsys.readouterr().out
    assert "| ours | 14 | 80.0 | 80.0 | 80.0 | 80.0 |" in printed
    assert "ours over the best peer, lora 2: +5.00 (natural +5.00" in printed
    assert "80.00, best peer lora 75.00, +5.00." in printed
    assert "e2vpt 1, lora 2, bias 1" in printed
