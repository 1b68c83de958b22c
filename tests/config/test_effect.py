"""Settings that change nothing beside the values of others are refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from e2vpt.config.groups import check_effect, configs_from
from e2vpt.errors import ConfigError


@pytest.mark.parametrize(
    ("method", "given", "idle"),
    [
        ("e2vpt", {"keep_kv": 0.5, "share_kv": False, "kv_init": "normal"}, "keep_kv kv_init share_kv"),
        ("e2vpt", {"keep_kv": 0.5, "share_kv": False, "num_kv": 5}, ""),
        ("e2vpt", {"num_visual": 0, "dropout": 0.2, "init": "uniform", "num_kv": 5}, "dropout init"),
        ("e2vpt", {"num_visual": (0, 3), "dropout": 0.2, "init": "uniform"}, ""),
        ("kv", {"num_kv": 0}, "num_kv"),
        ("kv", {"share_kv": False}, ""),
        ("e2vpt", {"keep": 0.3, "keep_tokens": (0.9,)}, "keep"),
        ("e2vpt", {"keep": 0.3, "keep_segments": (0.9,)}, "keep"),
        ("e2vpt", {"rewind": "none", "rewind_head": True}, "rewind_head"),
        ("e2vpt", {"train_on": "train+val", "finalists": 3, "tolerance": 0.0}, "finalists tolerance"),
        ("full", {"beside": "bias"}, "beside"),
        ("bias", {"beside": "bias"}, "beside"),
        ("bias", {"beside": "scale"}, ""),
        ("layernorm", {"beside": "gamma"}, "beside"),
    ],
)
def test_what_changes_nothing_is_refused(method: str, given: dict[str, Any], idle: str) -> None:
    configs = configs_from(given)
    if not idle:
        check_effect(given, configs, method=method, prunes=True)
        return
    with pytest.raises(ConfigError) as refused:
        check_effect(given, configs, method=method, prunes=True)
    assert [part.split()[0] for part in str(refused.value).split("; ")] == idle.split()
