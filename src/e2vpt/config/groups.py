"""All settings by the names of their fields, as the command line and `e2vpt.train` take them."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Mapping
from typing import Any

from e2vpt.config.effect import idle_beside_others
from e2vpt.config.images import DataConfig
from e2vpt.config.methods import MethodConfig
from e2vpt.config.prompts import RECIPE_PROMPTS
from e2vpt.config.protocol import GridConfig
from e2vpt.config.pruning import PruneConfig
from e2vpt.config.search import SearchConfig
from e2vpt.config.training import TrainConfig
from e2vpt.errors import ConfigError

GROUPS: Mapping[str, Any] = {
    "prompts": RECIPE_PROMPTS,
    "options": MethodConfig(),
    "data": DataConfig(),
    "train": TrainConfig(),
    "prune": PruneConfig(),
    "grid": GridConfig(),
    "search": SearchConfig(),
}
"""The default of each group of settings; no field name is in two of them."""

TRAINING = ("prompts", "options", "data", "train", "prune")


def configs_from(
    values: Mapping[str, Any], groups: Collection[str] = TRAINING, base: Mapping[str, Any] = GROUPS
) -> dict[str, Any]:
    """One config for each group: that of `base` with the values named in `values`.

    Raises:
        ConfigError: a name that is a field of none of the groups, or a value out of range.
    """
    fields = {group: field_names(group) for group in groups}
    known = sorted(name for names in fields.values() for name in names)
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else f". Known: {', '.join(known)}."
            raise ConfigError(f"There is no setting {name!r}{hint}")
    return {
        group: dataclasses.replace(
            base[group], **{name: value for name, value in values.items() if name in names}
        )
        for group, names in fields.items()
    }


def field_names(group: str) -> list[str]:
    """The settings of a group."""
    return [field.name for field in dataclasses.fields(GROUPS[group])]


def check_effect(
    given: Collection[str], configs: Mapping[str, Any], *, method: str, prunes: bool, protocol: str = "fast"
) -> None:
    """Refuse settings that somebody gave and that change nothing in what was asked.

    `configs` are all settings, by group.

    Raises:
        ConfigError: naming each of them and the reason.
    """
    optimizer = configs["train"].optimizer
    reasons = idle_beside_others(method, configs, protocol)
    refuse_idle(
        given, reasons | _idle_settings(method, prunes=prunes, protocol=protocol, optimizer=optimizer)
    )


def refuse_idle(given: Collection[str], reasons: Mapping[str, str]) -> None:
    """Refuse settings that somebody gave, and of which `reasons` says why they change nothing.

    Raises:
        ConfigError: naming each of them and the reason.
    """
    idle = [f"{name} has no effect {reasons[name]}" for name in sorted(given) if name in reasons]
    if idle:
        raise ConfigError(f"{'; '.join(idle)}. Leave {'it' if len(idle) == 1 else 'them'} out.")


OF_SCORES = ("num_segments", "layout", "signed_scores")
"""Settings of pruning that scores depend on, beside `masks`; what the paper's protocol leaves open."""
BY_THE_PAPER = (
    *(name for name in field_names("prune") if name not in OF_SCORES),
    *("init", "kv_init", "label_smoothing"),
)
"""What it settles itself, beside what its grid goes through."""


def _idle_settings(method: str, *, prunes: bool, protocol: str, optimizer: str) -> dict[str, str]:
    """Settings without effect, each with the reason."""
    visual, key_value = ["num_visual", "visual_depth", "init"], ["num_kv", "share_kv", "kv_depth", "kv_init"]
    idle: dict[str, str] = {}

    def add(names: Collection[str], reason: str) -> None:
        idle.update(dict.fromkeys(names, reason))

    if not prunes:
        add(field_names("prune"), "where nothing is pruned")
    if protocol != "paper":
        add(field_names("grid"), "without protocol 'paper'")
    else:
        add(["lr", "weight_decay", "optimizer"], "with protocol 'paper', which has its own grid")
        add(BY_THE_PAPER, "with protocol 'paper', which does as published")
    if optimizer != "sgd" and protocol != "paper":
        add(["momentum"], "with AdamW")
    with_method = f"with method {method!r}"
    if method not in ("e2vpt", "vpt-deep", "vpt-shallow", "kv"):
        add(field_names("prompts"), with_method)
    elif method == "kv":
        add([*visual, "dropout"], with_method)
    elif method != "e2vpt":
        add([*key_value, "visual_depth"], with_method)
    if method == "vpt-shallow":
        add(["first_block"], with_method)
    for prefix, methods in _OPTIONS_OF.items():
        if method not in methods:
            add([name for name in field_names("options") if name.startswith(prefix)], with_method)
    return idle


_OPTIONS_OF = {
    "partial_": ("partial",),
    "mlp_": ("mlp",),
    "adapter_": ("adapter",),
    "lora_": ("lora", "dora", "loha", "lokr"),
}
