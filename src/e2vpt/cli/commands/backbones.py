"""The command that lists what can be adapted: backbones."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from e2vpt.backbones.presets import PRESETS
from e2vpt.cli.options import AsJson
from e2vpt.errors import BackboneError

if TYPE_CHECKING:
    from e2vpt.backbones.supported import Architecture


def backbones_command(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[WORDS]...", help="Only names that hold all of these, such as dinov2 base."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the backbones that can be adapted: parameters, input size, pooling, pretrained tags, licence."""
    from e2vpt.backbones.supported import matching, near_names

    words = words or []
    found = matching(words)
    presets = {
        name: preset.timm_name for name, preset in PRESETS.items() if all(w.lower() in name for w in words)
    }
    if not found and not presets:
        near = near_names("_".join(words))
        closest = f" Closest: {', '.join(near)}." if near else ""
        raise BackboneError(f"No supported backbone is called {' '.join(words)}.{closest} Try fewer words.")
    num_tags = sum(len(each.tags) for each in found)
    if as_json:
        rows = [dataclasses.asdict(each) | {"tags": dict(each.tags)} for each in found]
        counts = {"num_architectures": len(found), "num_tags": num_tags}
        print(json.dumps({"backbones": rows, "presets": presets, **counts}))
        return
    print("\n".join([*map(_in_words, found), *_presets(presets)]))
    print(f"{len(found)} architectures, {num_tags} pretrained tags")


def _in_words(each: Architecture) -> str:
    """A line of figures, then a line for each licence with the tags that have it."""
    height, width = each.image_size
    figures = (
        f"{each.parameters / 1e6:.1f} M parameters, {height} x {width} px, pooling {each.pooling or '-'}"
    )
    licences: dict[str, list[str]] = {}
    for tag, licence in each.tags:
        licences.setdefault(licence or "not stated", []).append(f".{tag}" if tag else each.name)
    lines = [f"  {', '.join(tags)}  (licence: {licence})" for licence, tags in licences.items()]
    return "\n".join([f"{each.name}  {figures}", *(lines or ["  no pretrained weights in timm"])])


def _presets(presets: dict[str, str]) -> Sequence[str]:
    return [f"{name}  preset of {timm_name or 'this package'}" for name, timm_name in presets.items()]
