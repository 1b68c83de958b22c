"""What a run folder tells: its trainings, what pruning kept, its images; and a folder that tells nonsense."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from e2vpt.adapters.files import read_adapter
from e2vpt.errors import RunError
from e2vpt.insight.reports.record import read_record, settings_of, training_folders
from e2vpt.runs.folders.folder import read_log


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run, tmp_path / "copy")


def test_the_kept_epoch_is_the_best_of_each_log(run: Path) -> None:
    trainings = read_record(run).trainings
    assert len(trainings) == len(training_folders(run)) == 2
    for training, folder in zip(trainings, training_folders(run), strict=True):
        accuracies = [row["val_accuracy"] for row in read_log(folder)]
        assert [row["val_accuracy"] for row in training.rows] == accuracies
        assert accuracies[training.best - 1] == max(accuracies)


def test_what_pruning_kept_is_what_the_adapter_holds(run: Path) -> None:
    record, info = read_record(run), read_adapter(run / "adapter.safetensors")
    assert record.kept is not None and record.tried
    selection, share = record.kept
    assert tuple(int(tokens.sum()) for tokens in selection.tokens) == info.num_visual
    assert share == pytest.approx(info.visual_kept)


def test_images_are_counted_by_split(run: Path) -> None:
    assert Counter(row["split"] for row in read_record(run).images) == {"train": 18, "val": 13, "test": 15}


def test_every_setting_has_a_group(run: Path) -> None:
    groups = dict(settings_of(read_record(run)))
    assert groups["prune"]["keep_tokens"] == [0.5]
    assert groups["prompts"]["num_visual"] == 4 and groups["train"]["epochs"] == 2
    assert groups["run"]["backbone"] == "demo"
    saved = json.loads((run / "config.json").read_text())
    assert {name for name, value in saved.items() if isinstance(value, dict)} <= groups.keys() | {"images"}


def test_a_run_that_was_not_pruned_has_one_training(copy: Path) -> None:
    shutil.rmtree(copy / "prune")
    record = read_record(copy)
    assert [training.name for training in record.trainings] == ["the only one"]
    assert record.prune is None and record.kept is None and record.tried == ()
    assert "prune" not in dict(settings_of(record))


def test_without_its_scores_a_run_is_still_told(copy: Path) -> None:
    (copy / "prune" / "scores.safetensors").unlink()
    record = read_record(copy)
    assert record.kept is None and len(record.trainings) == 2


def test_a_damaged_file_is_named(copy: Path) -> None:
    (copy / "prune" / "config.json").write_text('{"keep_tokens": [7]}')
    with pytest.raises(RunError, match=r"prune/config\.json cannot be used .*Restore it"):
        read_record(copy)
    (copy / "config.json").write_text("{")
    with pytest.raises(RunError, match=r"config\.json"):
        read_record(copy)
