"""Weights files: read into a backbone, against the tensors that were written."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

import e2vpt
from e2vpt.backbones.weight_files import read_weights
from e2vpt.backbones.weights import load_weights
from scripts.mutate.adapter_bases import small_swin
from scripts.mutate.watch import Case, Make
from scripts.mutate.weight_files import MAKERS, PREFIXES, State


def prepare(folder: Path) -> Make:
    """Cases of one weights file each, for the demo backbone or a small Swin."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(5)
    demo, swin = e2vpt.load_backbone("demo", num_classes=3), small_swin()

    def make(random: Random, place: Path) -> Case:
        source = random.choice([demo, demo, swin])
        state = {
            n: t + 0.01 * torch.randn_like(t) for n, t in source.state_dict().items() if t.is_floating_point()
        }
        state = {name: t for name, t in state.items() if not name.startswith("head")}
        maker = random.choice(MAKERS)
        name, data, wanted = maker(state, random, source is demo)
        path = place / name
        path.write_bytes(data)
        loaded: list[nn.Module] = []
        plain = None if source is demo else small_swin()
        before = {} if plain is None else {n: t.clone() for n, t in plain.state_dict().items()}

        def run() -> nn.Module:
            if plain is None:
                loaded.append(e2vpt.load_backbone("demo", num_classes=3, weights=path))
            else:
                load_weights(plain, read_weights(path), path)
                loaded.append(plain)
            return loaded[0]

        def after() -> str:
            if loaded or plain is None:
                return ""
            same = all(t.equal(before[n]) for n, t in plain.state_dict().items())
            return "" if same else "refused, and the model has changed"

        what = f"{(maker.__doc__ or '').splitlines()[0]} ({name}, {'demo' if source is demo else 'swin'})"
        return Case(
            name=what, run=run, check=lambda m: _wrong(path, m, wanted), after=after, mentions=(path.name,)
        )

    return make


def _wrong(path: Path, model: nn.Module, wanted: State | None) -> str:
    wanted = _read(path) if wanted is None else wanted
    found = model.state_dict()
    heads = ("head.", "relative_position_index", "attn_mask")
    names = {n for n in found if not n.startswith("head") and not n.endswith(heads)}
    if names - wanted.keys():
        return f"loaded without {sorted(names - wanted.keys())[:3]}"
    other = [n for n in names if not found[n].equal(wanted[n].to(torch.float32))]
    return f"other numbers in {other[:3]} ({len(other)})" if other else ""


def _read(path: Path) -> State:
    """A damaged file that was taken, read by its library alone."""
    if path.suffix == ".safetensors":
        content: Any = safetensors.torch.load_file(path)
    elif path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            content = {name: torch.from_numpy(arrays[name]) for name in arrays}
    else:
        content = torch.load(path, map_location="cpu", weights_only=True)
    while not all(isinstance(value, Tensor) for value in content.values()):
        content = next(value for value in content.values() if isinstance(value, dict))
    for _ in range(3):
        for prefix in PREFIXES:
            if all(name.startswith(prefix) for name in content):
                content = {name.removeprefix(prefix): t for name, t in content.items()}
    return dict(content)
