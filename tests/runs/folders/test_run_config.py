"""The settings of a run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from e2vpt import PromptConfig, RunConfig, TrainConfig
from e2vpt.config import DataConfig
from e2vpt.runs.folders.run_config import trained_on


@pytest.mark.parametrize(
    ("method", "init", "expected"),
    [
        ("e2vpt", "patch", 1e-2),
        ("e2vpt", "uniform", 5e-3),
        ("kv", "uniform", 1e-2),
        ("vpt-deep", "uniform", 5e-3),
        ("full", "patch", 3e-4),
        ("vpt-shallow", "patch", 2e-3),
        ("lora", "patch", 1e-2),
        ("ia3", "patch", 1e-1),
    ],
)
def test_a_rate_that_was_not_given_is_the_methods_own(method: str, init: Any, expected: float) -> None:
    prompts = PromptConfig(init=init, kv_init="patch")
    assert RunConfig(backbone="demo", method=method, prompts=prompts).train.lr == expected
    given = RunConfig(backbone="demo", method=method, prompts=prompts, train=TrainConfig(lr=0.0))
    assert given.train.lr == 0.0 and dataclasses.replace(given, method="lora").train.lr == 0.0


def test_a_bare_training_has_a_rate_that_suits_prompts_from_chance() -> None:
    assert TrainConfig().lr is None and TrainConfig().peak_lr == 5e-3
    assert TrainConfig(lr=0.0).peak_lr == 0.0


def test_what_a_run_was_trained_on_in_the_end(tmp_path: Path) -> None:
    config = RunConfig(backbone="demo", data=DataConfig(train_on="train+val"))
    assert trained_on(tmp_path, config) == "train+val"
    assert trained_on(tmp_path, RunConfig(backbone="demo")) == "train"
    (tmp_path / "grid").mkdir()
    for said, images in (({}, "train+val"), ({"final_on": "train"}, "train")):
        (tmp_path / "grid/config.json").write_text(json.dumps(said))
        assert trained_on(tmp_path, RunConfig(backbone="demo")) == images
