"""Pruned prompts: tokens that are gone, segments that are zero (paper, section 3.3).

Shapes: p visual prompts, m key-value prompts, D model width, R segments.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from e2vpt.config.pruning import Layout
from e2vpt.errors import ConfigError
from e2vpt.prompting.parts import find_prompts, prompt_layers
from e2vpt.prompting.prompts import BlockPrompts
from e2vpt.pruning.segments import expand
from e2vpt.pruning.selection import Selection


@torch.no_grad()
def apply(model: nn.Module, selection: Selection, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Remove the tokens that were not selected, zero the segments that were not.

    A removed token is gone from the tensors, as if it had never been there. State that `optimizer` keeps of
    the prompts is cut in the same way.

    Raises:
        ConfigError: the selection is of other counts than the model has.
    """
    layers = prompt_layers(model)
    _check_fits(layers, selection)
    for index, layer in enumerate(layers):
        tokens, key_value = selection.tokens[index], selection.key_value[index]
        before = dict(layer.named_parameters())  # a shared tensor comes once
        _cut(layer, tokens, selection.segments[index], key_value, selection.layout)
        if optimizer is not None:
            for name, parameter in before.items():
                if getattr(layer, name) is parameter:  # a gate
                    continue
                kept, dim = (tokens, 0) if name == "visual" else (key_value, 1)
                _follow(optimizer, parameter, getattr(layer, name), kept, dim)


def visual_kept(model: nn.Module) -> float:
    """Share of the visual prompt elements that pruning has left, 0 to 1; 1 where there were none."""
    layers = find_prompts(model)
    before = sum(layer.visual_before for layer in layers)
    left = sum(float(layer.keep.sum()) for layer in layers if layer.keep is not None)
    return left / before if before else 1.0


def num_kept(model: nn.Module) -> int:
    """Prompt parameters that pruning has left: kept elements of visual prompts, and key-value prompts."""
    layers = prompt_layers(model)
    visual = sum(int(layer.keep.sum()) for layer in layers if layer.keep is not None)
    others = {
        id(p): p.numel() for layer in layers for name, p in layer.named_parameters() if name != "visual"
    }
    return visual + sum(others.values())


# Applying.


def _check_fits(layers: Sequence[BlockPrompts], selection: Selection) -> None:
    have = [(layer.num_visual, layer.num_kv) for layer in layers]
    given = [(len(t), len(kv)) for t, kv in zip(selection.tokens, selection.key_value, strict=True)]
    if have != given:
        raise ConfigError(
            f"This selection is for other prompts: (visual, key-value) counts by block are {given}, "
            f"the model has {have}."
        )


def _cut(layer: BlockPrompts, tokens: Tensor, segments: Tensor, key_value: Tensor, layout: Layout) -> None:
    parts: dict[str, Tensor | None] = {"visual": None, "keep": None}
    if layer.visual is not None and layer.keep is not None:
        chosen = tokens.to(layer.visual.device)
        inside = expand(segments.to(layer.keep)[chosen], layer.visual.shape[1], layout)
        parts = {"visual": layer.visual[chosen], "keep": layer.keep[chosen] * inside}
    if layer.key is not None and layer.value is not None:
        chosen = key_value.to(layer.key.device)
        parts |= {"key": layer.key[:, chosen], "value": layer.value[:, chosen]}
    layer.resize(**parts)


def _follow(
    optimizer: torch.optim.Optimizer, old: nn.Parameter, new: nn.Parameter | None, kept: Tensor, dim: int
) -> None:
    """Have an optimizer hold `new`, with the state of `old` cut to what was kept; or nothing for None."""
    state = optimizer.state.pop(old, {})
    indices = kept.nonzero().flatten().to(old.device)
    if new is not None:
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == old.shape:
                state[name] = value.index_select(dim, indices)
        optimizer.state[new] = state
    for group in optimizer.param_groups:
        held = [new if p is old else p for p in group["params"]]
        group["params"] = [p for p in held if p is not None]
