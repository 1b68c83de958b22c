"""The architectures of timm that prompts can enter, what each takes, and which pretrained weights it has.

Building hundreds of models takes minutes, so what is built is read from a table beside this file, which
`scripts/list_backbones.py` makes of every architecture that `planned_backbone` takes. Tags and licences are
asked of the timm that is installed.
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import timm
from timm.models import get_pretrained_cfg, split_model_name_tag

from e2vpt.backbones.presets import PRESETS

SUPPORTED_TABLE = Path(__file__).with_name("supported.csv")
START = {
    "small": "vit_small_patch16_224.augreg_in21k",
    "base": "vit_base_patch16_224.augreg_in21k",
    "large": "vit_large_patch16_224.augreg_in21k",
}
"""Backbones to begin with: of three sizes, with the same pretraining."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """An architecture of timm that prompts can enter.

    Attributes:
        name: timm's, without a tag.
        parameters: of the backbone without a head.
        image_size: height and width of its input in pixels, as it was pretrained first.
        pooling: what the head sees: "token" (the class token), "avg", "map" (attention pooling), ...
        tags: its pretrained weights, with the licence that timm notes of each ("" where it notes none).
    """

    name: str
    parameters: int
    image_size: tuple[int, int]
    pooling: str
    tags: tuple[tuple[str, str], ...]


@functools.cache
def supported_architectures() -> tuple[Architecture, ...]:
    """All that are in the table and that the installed timm has, by name."""
    tags: dict[str, list[tuple[str, str]]] = {name: [] for name in timm.list_models()}
    for name in timm.list_models(pretrained=True):
        architecture, tag = split_model_name_tag(name)
        cfg = get_pretrained_cfg(name)
        tags[architecture].append((tag, (cfg.license if cfg else None) or ""))
    with SUPPORTED_TABLE.open(newline="", encoding="utf-8") as file:
        return tuple(
            Architecture(
                name=row["name"],
                parameters=int(row["parameters"]),
                image_size=(int(row["height"]), int(row["width"])),
                pooling=row["pooling"],
                tags=tuple(sorted(tags[row["name"]])),
            )
            for row in csv.DictReader(file)
            if row["name"] in tags
        )


def matching(words: Sequence[str]) -> list[Architecture]:
    """The architectures that hold every word, in any case, in their name and one tag; with those tags."""
    wanted = [word.lower() for word in words]
    found = []
    for each in supported_architectures():
        tags = tuple(tag for tag in each.tags if all(w in f"{each.name}.{tag[0]}".lower() for w in wanted))
        if tags or all(word in each.name for word in wanted):
            found.append(dataclasses.replace(each, tags=tags))
    return found


def near_names(name: str) -> list[str]:
    """Up to four supported names, presets included, that are most like this one."""
    known = supported_architectures()
    architecture, tag = split_model_name_tag(name)
    own = [f"{each.name}.{tag}" for each in known if each.name == architecture for tag, _ in each.tags]
    if tag and own:
        return difflib.get_close_matches(name, own, n=4, cutoff=0)
    tagged = [f"{each.name}.{tag}" for each in known for tag, _ in each.tags] if tag else []
    names = [*PRESETS, *(each.name for each in known), *tagged]
    return difflib.get_close_matches(name, names, n=4, cutoff=0.5)


def where_to_start() -> str:
    """Three backbones to begin with, in words."""
    size = {each.name: each.parameters for each in supported_architectures()}
    millions = {name: round(size[split_model_name_tag(name)[0]] / 1e6) for name in START.values()}
    named = ", ".join(f"{name} ({count} million parameters)" for name, count in millions.items())
    return f"To start with: {named}. `e2vpt backbones` lists what is supported."
