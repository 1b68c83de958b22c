"""Recipes: named sets of values that `train` starts from; settings given beside one replace its values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

from e2vpt.config.fields import require
from e2vpt.config.groups import GROUPS, TRAINING, field_names
from e2vpt.config.prompts import PromptConfig

Recipe = Literal["default", "paper", "quick"]

PUBLISHED_START: Mapping[str, Any] = {"init": "uniform", "kv_init": "kaiming"}
"""How prompts start in the official code (reference: E²VPT, section 4.1, and its published code)."""

PUBLISHED_PROMPTS: Mapping[str, Any] = {**PUBLISHED_START, "num_kv": PromptConfig().num_kv}
"""The prompts of E²VPT as published, where the default recipe has others."""

PUBLISHED_PRUNING: Mapping[str, Any] = {"masks": "shared", "rewind_head": True}
"""How E²VPT prunes as published (its code), where the default recipe does otherwise."""

RECIPES: Mapping[str, Mapping[str, Any]] = {
    "default": {"augment": "auto"},
    "paper": {
        **PUBLISHED_PROMPTS,
        "beside": "none",
        "augment": "none",
        "label_smoothing": 0.0,
        **PUBLISHED_PRUNING,
    },
    "quick": {"augment": "auto", "epochs": 20, "prune": False},
}
"""What each recipe sets otherwise than the default, by the names of `GROUPS`, and whether it prunes.

default  what docs/results.md recommends
paper    E²VPT as published: prompts start from chance, only prompts and head are tuned, one mask for all
         blocks. Its optimizer was SGD, over a grid of rates; `--protocol paper` runs that whole search,
         from this recipe
quick    one short training, nothing pruned: a first answer in a fifth of the epochs
"""


def recipe_groups(recipe: str) -> dict[str, Any]:
    """The configs of a recipe, by group.

    Raises:
        ConfigError: there is no such recipe.
    """
    known = isinstance(recipe, str) and recipe in RECIPES
    require(known, f"recipe is {recipe!r}; expected one of {', '.join(get_args(Recipe))}.")
    values = RECIPES[recipe]
    return {
        group: dataclasses.replace(
            GROUPS[group], **{name: values[name] for name in field_names(group) if name in values}
        )
        for group in TRAINING
    }
