"""Equal epochs: what a method that prunes makes of those that its peers have for one training."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.tasks_for_tests import write_task

import e2vpt
from e2vpt import PromptConfig, PruneConfig, RunConfig, TrainConfig
from e2vpt.benchmarks.compare.compare import Comparison, compare_methods
from e2vpt.benchmarks.compare.entries import ENTRIES, ComparedMethod
from e2vpt.runs.reporting import Reporting


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return Comparison(
        tasks={"one": e2vpt.load_task(write_task(tmp_path_factory.mktemp("data") / "one"))},
        config=RunConfig(
            backbone="demo", prompts=PromptConfig(num_visual=4), train=TrainConfig(batch_size=9)
        ),
        entries={
            "linear": ComparedMethod(method="linear", lrs=(0.01,)),
            "ours": ComparedMethod(method="e2vpt", lrs=(0.01,), prunes=True),
            "paper's": dataclasses.replace(ENTRIES["e2vpt-paper"], lrs=(0.01,)),
        },
        tune_on=("one",),
        prune=PruneConfig(num_segments=4),
        seeds=1,
        equal_epochs=True,
    )


Given = dict[str, tuple[int, PruneConfig | None]]


@pytest.fixture
def compared(
    comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Given, list[str]]]:
    """Epochs and pruning that every method would train with, and what is said; nothing is trained."""

    def compare(
        epochs: int, *, prune_at: float = 1.0, finalists: int = 1, **changed: Any
    ) -> tuple[Given, list[str]]:
        given: Given = {}

        def record(
            trial: Any, _: Any, config: RunConfig, prune: PruneConfig | None, *others: Any
        ) -> dict[str, Any]:
            given[trial.method] = (config.train.epochs, prune)
            return trial.row() | {"val_accuracy": 0.5, "diverged": False}

        monkeypatch.setattr("e2vpt.benchmarks.compare.compare.run_trial", record)
        config = dataclasses.replace(comparison.config, train=TrainConfig(epochs=epochs, batch_size=9))
        prune = dataclasses.replace(comparison.prune, prune_at=prune_at, finalists=finalists)
        said: list[str] = []
        asked = dataclasses.replace(comparison, config=config, prune=prune, **changed)
        compare_methods(asked, tmp_path / "out", reporting=Reporting(on_stage=said.append))
        return given, said

    return compare


@pytest.mark.parametrize(
    ("changed", "epochs"),
    [
        ({}, 12),
        ({"equal_epochs": False}, 24),
        ({"prune_at": 0.5}, 24),
        ({"finalists": 2, "late_where_few": False}, 8),
    ],
)
def test_a_method_that_trains_twice_divides_the_epochs_of_its_peers(
    compared: Callable[..., tuple[Given, list[str]]], changed: dict[str, Any], epochs: int
) -> None:
    given, _ = compared(24, **changed)
    assert given["linear"] == (24, None)
    assert given["ours"][0] == epochs


@pytest.mark.parametrize(
    ("epochs", "late_where_few", "expected"),
    [
        (20, True, (10, 1.0, "initial")),
        (19, True, (19, 0.75, "none")),
        (19, False, (9, 1.0, "initial")),
        (1, True, (1, 1.0, "initial")),
    ],
)
def test_pruning_comes_late_in_one_training_where_two_would_be_short(
    compared: Callable[..., tuple[Given, list[str]]],
    tmp_path: Path,
    epochs: int,
    late_where_few: bool,
    expected: tuple[int, float, str],
) -> None:
    given, said = compared(epochs, late_where_few=late_where_few)
    num, prune = given["ours"]
    assert prune is not None and (num, prune.prune_at, prune.rewind) == expected
    is_late = prune.prune_at < 1
    assert (f"{epochs} epochs are few for two trainings: pruning comes within one, at 75%" in said) == is_late
    saved = json.loads((tmp_path / "out/config.json").read_text())
    assert saved["prune"]["prune_at"] == expected[1]


@pytest.mark.parametrize(("epochs", "each"), [(24, 12), (19, 9), (4, 2)])
def test_rows_of_the_paper_rewind_and_train_twice_however_few_epochs_there_are(
    compared: Callable[..., tuple[Given, list[str]]], epochs: int, each: int
) -> None:
    given, _ = compared(epochs)
    num, prune = given["paper's"]
    assert prune is not None and num == each
    assert (prune.masks, prune.rewind_head, prune.prune_at, prune.rewind) == ("shared", True, 1.0, "initial")
    ours = given["ours"][1]
    assert ours is not None and (ours.masks, ours.rewind_head) == ("per-block", False)


def test_nothing_is_said_of_late_pruning_where_no_row_prunes_late(
    compared: Callable[..., tuple[Given, list[str]]], comparison: Comparison
) -> None:
    _, said = compared(19, entries={"paper's": comparison.entries["paper's"]})
    assert not any("few for two trainings" in words for words in said)
