"""The grid of the paper's protocol: methods have the optimizer and the rates that VPT gave them."""

from __future__ import annotations

import dataclasses

import pytest

from e2vpt.config import GridConfig
from e2vpt.methods.names import METHODS


def test_methods_of_adamw_have_its_grid() -> None:
    """KMnP/vpt: `get_lrwd_range` of train type finetune, configs/base-finetune.yaml."""
    for method in ("full", "partial", "bias", "adapter"):
        grid = GridConfig().for_method(method)
        assert grid.grid_optimizer == "adamw" and set(grid.base_lrs) == {0.001, 0.0001, 0.0005, 0.005}
        assert grid.weight_decays == GridConfig().weight_decays
        assert dataclasses.replace(grid, keep_ratios=()).num_trainings() == 4 * 4 + 5
        assert grid.for_method(method) == grid


def test_all_others_have_sgd_s() -> None:
    for method in set(METHODS) - {"full", "partial", "bias", "adapter"}:
        assert GridConfig().for_method(method) == GridConfig()


@pytest.mark.parametrize("asked", [GridConfig(base_lrs=(0.1,)), GridConfig(grid_optimizer="adamw")])
def test_what_was_asked_for_stays(asked: GridConfig) -> None:
    assert asked.for_method("full") == asked
