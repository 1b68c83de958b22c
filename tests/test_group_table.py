"""scripts/group_table.py: means by group, and a lead that was not chosen on what it is measured on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts import group_table as script


def flat(value: float, **other: float) -> dict[str, float]:
    return dict.fromkeys(script.TASKS, value) | other


def test_means_are_over_tasks_and_a_group_that_lacks_one_has_none() -> None:
    by_task = flat(50.0, count8=90.0)
    mean, natural, specialised, structured = script.group_means(by_task)
    assert mean == pytest.approx(50 + 40 / 14)
    assert (natural, specialised, structured) == (50, 50, 60)
    del by_task["count8"]
    assert script.group_means(by_task) == [None, 50, 50, None]


def test_rows_of_both_kinds_are_read_and_seeds_are_averaged() -> None:
    ideas = [
        {"task": "dtd10", "variant": "a", "seed": seed, "best": best} for seed, best in ((0, 0.5), (1, 0.7))
    ]
    lora, full = ({"task": "dtd10", "seed": 0, "method": method} for method in ("lora", "full"))
    compare = [
        lora | {"stage": "tuning", "val_accuracy": 0.9},
        lora | {"stage": "final", "val_accuracy": 0.8, "accuracy": 0.4},
        full | {"stage": "final", "val_accuracy": 0.0, "diverged": True},
    ]
    assert script.over_seeds(script.accuracies(ideas, "val")) == {"a": {"dtd10": pytest.approx(60)}}
    found = script.accuracies(compare, "test")
    assert script.over_seeds(found) == {"lora": {"dtd10": 40}, "full": {"dtd10": 0}}


def test_a_seed_that_is_still_under_way_does_not_count() -> None:
    rows = [
        {"task": task, "seed": seed, "method": "lora", "stage": "final", "accuracy": accuracy}
        for task, seed, accuracy in [("dtd10", 0, 0.4), ("count8", 0, 0.6), ("count8", 1, 0.9)]
    ]
    found = script.accuracies(rows, "test")
    assert list(found["lora"]) == [0]
    assert script.table(found, ["dtd10", "count8"])[2].startswith(
        "| lora | 1 | 2 | **50.0** | **40.0** |  | **60.0** |"
    )
    rows.append({"task": "dtd10", "seed": 1, "method": "lora", "stage": "final", "accuracy": 0.3})
    found = script.accuracies(rows, "test")
    assert script.table(found, ["dtd10", "count8"])[2].startswith(
        "| lora | 2 | 2 | **55.0 ± 7.1** | **35.0** |"
    )


def test_tuned_parameters_are_a_mean_where_some_trainings_keep_all_prompts() -> None:
    rows = [{"method": "e2vpt", "stage": "final", "lr": 0.01, "num_tuned": size} for size in (1000, 3001)]
    tuning = {"method": "e2vpt", "stage": "tuning", "lr": 0.1, "num_tuned": 9}
    assert script.sizes_of([*rows, tuning]) == {"e2vpt": ("2,000", "0.01")}


def test_a_variant_that_is_best_on_one_task_only_is_not_chosen_for_it() -> None:
    scores = {"steady": flat(60.0), "lucky": flat(59.0, count8=80.0)}
    assert script.best_of(scores, list(scores), script.TASKS) == "lucky"
    assert script.left_out_mean(scores, list(scores), script.TASKS) == pytest.approx((13 * 59 + 60) / 14)


def test_the_verdict_names_the_best_peer_and_both_leads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"task": task, "variant": name, "seed": 0, "best": best, "epochs": 12}
        for task in script.TASKS
        for name, best in [("ours", 0.8), ("lora 1", 0.7), ("lora 2", 0.75), ("bias", 0.6)]
    ]
    path, families = tmp_path / "rows.jsonl", tmp_path / "families.json"
    path.write_text("\n".join(map(json.dumps, rows)))
    families.write_text(json.dumps({"e2vpt": ["ours"], "lora": ["lora 1", "lora 2"], "bias": ["bias"]}))
    few = json.dumps(rows[0] | {"variant": "few", "shots": 8})
    path.write_text(f"{path.read_text()}\n{few}")
    words = ["x", str(path), "--figure", "val", "--ours", "e2vpt", "--families", str(families)]
    monkeypatch.setattr("sys.argv", words)
    script.main()
    printed = capsys.readouterr().out
    assert "| ours | 1 | 14 | **80.0** | **80.0** | **80.0** | **80.0** |" in printed
    assert "ours over the best peer, lora 2: +5.00 (natural +5.00" in printed
    assert "few" not in printed
    assert "structured +5.00); by seed +5.00." in printed
    assert "80.00, best peer lora 75.00, +5.00." in printed
    assert "e2vpt 1, lora 2, bias 1" in printed


def test_variants_of_ours_are_no_peers() -> None:
    families = script.families_of(["e2vpt", "lora", "e2vpt-no-prune"], "e2vpt")
    assert families == {"e2vpt": ["e2vpt", "e2vpt-no-prune"], "lora": ["lora"]}


def test_tuned_parameters_and_rates_are_shown_where_they_are_known() -> None:
    row = {"task": "dtd10", "seed": 0, "method": "lora", "stage": "final", "accuracy": 0.4}
    row |= {"num_tuned": 73728, "lr": 3e-4}
    lines = script.table(script.accuracies([row], "test"), ["dtd10"], script.sizes_of([row]))
    assert lines[0].startswith("| row | tuned | rate | seeds |")
    assert lines[2].startswith("| lora | 73,728 | 0.0003 | 1 | 1 | **40.0** |")
