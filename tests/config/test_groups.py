"""Settings by name: every field reachable, unknown names and idle ones refused."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from e2vpt.config import RECIPE_PROMPTS
from e2vpt.config.groups import GROUPS, TRAINING, check_effect, configs_from, field_names
from e2vpt.errors import ConfigError
from e2vpt.methods.names import METHODS


def test_no_name_is_in_two_groups() -> None:
    names = [name for group in GROUPS for name in field_names(group)]
    assert len(set(names)) == len(names)


def test_defaults_and_named_values() -> None:
    assert configs_from({}) == {group: GROUPS[group] for group in TRAINING}
    found = configs_from({"num_visual": 3, "epochs": 7})
    assert found["prompts"].num_visual == 3 and found["prompts"].init == RECIPE_PROMPTS.init
    assert found["train"].epochs == 7


def test_an_unknown_name_is_answered_with_a_near_one() -> None:
    with pytest.raises(ConfigError, match="'epoch'; did you mean epochs"):
        configs_from({"epoch": 7})
    with pytest.raises(ConfigError, match=r"'grid_optimizer'"):
        configs_from({"grid_optimizer": "sgd"})


def configs(**values: object) -> dict[str, Any]:
    """With prompts of both kinds."""
    return configs_from({"num_kv": 5, **values})


def idle(method: str, optimizer: str = "adamw", **asked: object) -> set[str]:
    """Every setting that is refused by itself."""
    settings = {"prunes": True, "protocol": "fast"} | asked
    found = set()
    for name in (name for group in GROUPS for name in field_names(group)):
        with contextlib.suppress(ConfigError):
            check_effect([name], configs(optimizer=optimizer), method=method, **settings)  # type: ignore[arg-type]
            continue
        found.add(name)
    return found


def test_what_each_method_takes() -> None:
    grid, options = set(field_names("grid")), set(field_names("options")) - {"beside"}
    prompts, prune = set(field_names("prompts")), set(field_names("prune"))
    rest = grid | {"momentum"}
    assert idle("e2vpt") == rest | options
    assert idle("e2vpt", prunes=False) == rest | options | prune
    assert idle("e2vpt", optimizer="sgd") == grid | options
    searched = {"lr", "weight_decay", "optimizer"}
    settled = {"init", "kv_init", "label_smoothing"} | prune - {"num_segments", "layout", "signed_scores"}
    assert idle("e2vpt", protocol="paper") == options | searched | settled
    assert idle("lora", prunes=False) == rest | prune | prompts | (options - {"lora_rank", "lora_alpha"})
    assert {"num_kv", "share_kv"} <= idle("vpt-deep") and "num_visual" not in idle("vpt-deep")
    assert {"num_visual", "init"} <= idle("kv") and "num_kv" not in idle("kv")
    assert all(idle(method) >= grid for method in METHODS)


def test_all_of_them_are_named() -> None:
    with pytest.raises(ConfigError, match=r"keep has no effect .*; num_kv has no effect .* Leave them out"):
        check_effect(["num_kv", "keep", "epochs"], configs(), method="lora", prunes=False)
