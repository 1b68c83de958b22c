"""Settings that change nothing beside the values of others."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from e2vpt.config.fields import as_tuple
from e2vpt.config.images import DataConfig
from e2vpt.config.prompts import PromptConfig
from e2vpt.config.pruning import PruneConfig

_TUNED_BY: Mapping[str, Collection[str]] = {
    "full": ("bias", "norm", "gamma"),
    "bias": ("bias",),
    "layernorm": ("norm", "gamma"),
}
"""What a method tunes itself, of what `beside` adds."""


_OF_KEY_VALUE = ("share_kv", "kv_depth", "kv_init", "keep_kv")


def idle_beside_others(method: str, configs: Mapping[str, Any], protocol: str) -> dict[str, str]:
    """Settings without effect where all settings are these (by group), each with the reason."""
    idle = _of_prompts(method, configs["prompts"]) | _of_pruning(configs["prune"], configs["data"])
    if configs["options"].beside in _TUNED_BY.get(method, ()):
        idle["beside"] = f"as {configs['options'].beside!r} with method {method!r}, which tunes them itself"
    if protocol == "paper" and configs["data"].augment == "auto":
        idle["augment"] = "as 'auto' with protocol 'paper'"
    return idle


def _of_prompts(method: str, prompts: PromptConfig) -> dict[str, str]:
    idle: dict[str, str] = {}
    if method == "e2vpt" and not prompts.has_key_value:
        idle |= dict.fromkeys(_OF_KEY_VALUE, "without key-value prompts (num_kv is 0)")
    if method in ("e2vpt", "vpt-deep", "vpt-shallow") and not any(as_tuple(prompts.num_visual)):
        idle |= dict.fromkeys(["visual_depth", "init", "dropout"], "without visual prompts (num_visual is 0)")
    if method == "kv" and not prompts.has_key_value:
        idle["num_kv"] = "as 0 with method 'kv', which is key-value prompts"
    return idle


def _of_pruning(prune: PruneConfig, data: DataConfig) -> dict[str, str]:
    idle: dict[str, str] = {}
    shares = [name for name in ("keep_tokens", "keep_segments") if getattr(prune, name)]
    if shares:
        idle["keep"] = f"beside {shares[0]}, which says what is kept"
    if prune.rewind == "none":
        idle["rewind_head"] = "where nothing is rewound (rewind is none)"
    if data.train_on == "train+val":
        idle |= dict.fromkeys(
            ["finalists", "tolerance"], "with train_on train+val: nothing is left to choose by"
        )
    return idle
