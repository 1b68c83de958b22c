"""Recipes: known names of settings only, and each leads where its name says."""

from __future__ import annotations

import dataclasses
from typing import get_args

import pytest

from e2vpt.config.groups import GROUPS, TRAINING, field_names
from e2vpt.config.recipes import RECIPES, Recipe, recipe_groups
from e2vpt.errors import ConfigError


def test_every_value_is_a_setting_and_differs_from_the_default() -> None:
    assert set(RECIPES) == set(get_args(Recipe))
    for name, values in RECIPES.items():
        groups = recipe_groups(name)
        for setting, value in values.items():
            if setting == "prune":
                continue
            (group,) = (group for group in TRAINING if setting in field_names(group))
            assert getattr(groups[group], setting) == value
    own = {group: GROUPS[group] for group in TRAINING}
    assert recipe_groups("default") == own | {"data": dataclasses.replace(own["data"], augment="auto")}


def test_the_papers_recipe_tunes_prompts_and_head_only() -> None:
    groups = recipe_groups("paper")
    assert groups["options"].beside == "none" and groups["prompts"].init == "uniform"
    assert groups["prune"].masks == "shared" and groups["prune"].rewind_head


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(ConfigError, match="recipe is 'fast'; expected one of default, paper, quick"):
        recipe_groups("fast")
    with pytest.raises(ConfigError, match="recipe is \\['paper'\\]"):
        recipe_groups(["paper"])  # type: ignore[arg-type]
