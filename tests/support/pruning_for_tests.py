"""Prompted models to prune, and scores made up for them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.backbones_for_tests import prompted, tiny_swin, tiny_vit
from torch import Tensor, nn

import e2vpt
from e2vpt.pruning.scores import Scores
from e2vpt.pruning.selection import Selection, Wanted, select

MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "vit": (tiny_vit, {}),
    "vit-separate-kv": (tiny_vit, {"share_kv": False}),
    "vit-shallow": (tiny_vit, {"visual_depth": "shallow"}),
    "vit-gated": (tiny_vit, {"attention": "gated"}),
    "swin": (tiny_swin, {}),
    "swin-shallow-pooled": (tiny_swin, {"visual_depth": "shallow", "pool_prompts": True}),
}
each_model = pytest.mark.parametrize("kind", MODELS)


def made(kind: str = "vit", **config: Any) -> nn.Module:
    make, options = MODELS[kind]
    model = prompted(make(), **({"num_visual": 4, "num_kv": 3} | options | config))
    for layer in e2vpt.prompt_layers(model):
        if layer.keep is not None:
            layer.keep.fill_(1)
    return model


def scores_of(tokens: list[list[float]], shared: bool, segments: int = 2, seed: int = 0) -> Scores:
    """Token scores as given, segment scores random but positive, three key-value prompts a block."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {len(t): torch.rand(len(t), segments, generator=generator).double() + 0.1 for t in tokens}
    return Scores(
        tokens=tuple(torch.tensor(t, dtype=torch.float64) for t in tokens),
        segments=tuple(drawn[len(t)] for t in tokens),
        key_value=(torch.tensor([0.2, 0.3, 0.1]).double(),) * len(tokens),
        shared=shared,
        layout="strided",
    )


def some(
    model: nn.Module, tokens: Wanted = 1.0, segments: Wanted = 1.0, key_value: Wanted = 1.0
) -> Selection:
    """A selection for this model by random scores, other ones for every block."""
    generator = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator).double()

    layers = e2vpt.prompt_layers(model)
    scores = Scores(
        tokens=tuple(draw(layer.num_visual) for layer in layers),
        segments=tuple(draw(layer.num_visual, 8) for layer in layers),
        key_value=tuple(draw(layer.num_kv) for layer in layers),
        shared=False,
        layout="strided",
    )
    return select(scores, tokens=tokens, segments=segments, key_value=key_value)
