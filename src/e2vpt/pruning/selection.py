"""Pruning visual prompts: score -> select -> apply (paper, section 3.3), and rewinding what is left.

Knows nothing of training.

Shapes: p visual prompts, m key-value prompts, D model width, R segments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from e2vpt.errors import ConfigError
from e2vpt.methods.adapt import tuned_parameters
from e2vpt.prompting.install import classifier, find_prompts, prompt_layers
from e2vpt.prompting.prompts import BlockPrompts
from e2vpt.pruning.scores import Scores as Scores
from e2vpt.pruning.scores import score as score
from e2vpt.pruning.segments import Layout, expand

Wanted = float | int
"""How much to keep: a share (float in [0, 1]) or a count (int)."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Selection:
    """What stays: boolean tensors in the shapes of `Scores`; a token without a segment is not in `tokens`."""

    tokens: tuple[Tensor, ...]
    segments: tuple[Tensor, ...]
    key_value: tuple[Tensor, ...]
    layout: Layout


def select(
    scores: Scores,
    *,
    tokens: Wanted = 1.0,
    segments: Wanted = 1.0,
    key_value: Wanted = 1.0,
    at_least_one: bool = True,
) -> Selection:
    """Keep the highest scores: first of the tokens, then of the segments of the tokens kept.

    Shared scores give one mask for all blocks. Otherwise all blocks compete, so they may keep different
    numbers; a count is then over all blocks together. `at_least_one` leaves every block one visual prompt.

    Raises:
        ConfigError: a share outside [0, 1] or a count of more than there is.
    """
    chosen = _highest(scores.tokens, tokens, scores.shared, at_least_one)
    open_segments = [
        part.masked_fill(~kept[:, None], -math.inf)
        for part, kept in zip(scores.segments, chosen, strict=True)
    ]
    kept = _highest(open_segments, segments, scores.shared, at_least_one)
    return Selection(
        tokens=tuple(part.any(-1) for part in kept),
        segments=tuple(kept),
        key_value=tuple(_highest(scores.key_value, key_value, scores.shared, at_least_one=False)),
        layout=scores.layout,
    )


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


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Snapshot:
    """Copies of all prompts, of the head, and of what is tuned beside them, to return to."""

    layers: tuple[dict[str, Tensor | None], ...]
    head: dict[str, Tensor]
    beside: dict[str, Tensor]


def snapshot(model: nn.Module) -> Snapshot:
    """All that is tuned, and the keep masks, as they are now; taken before the first step, the origin."""
    copies = [
        {name: _copy(getattr(layer, name)) for name in ("visual", "keep", "key", "value")}
        for layer in find_prompts(model)
    ]
    head = classifier(model).state_dict()
    return Snapshot(
        layers=tuple(copies),
        head={name: tensor.clone() for name, tensor in head.items()},
        beside={name: p.detach().clone() for name, p in tuned_parameters(model).items()},
    )


def rewind(model: nn.Module, origin: Snapshot, selection: Selection | None = None) -> None:
    """Go back to a snapshot, pruned prompts included; then, with `selection`, prune again (paper, 3.3)."""
    device = next(model.parameters()).device
    for layer, values in zip(find_prompts(model), origin.layers, strict=True):
        layer.resize(**{name: None if t is None else t.to(device) for name, t in values.items()})
    classifier(model).load_state_dict(origin.head)
    with torch.no_grad():
        for name, parameter in tuned_parameters(model).items():
            parameter.copy_(origin.beside[name])
    if selection is not None:
        apply(model, selection)


# Selecting.


def _highest(parts: Sequence[Tensor], wanted: Wanted, shared: bool, at_least_one: bool) -> list[Tensor]:
    """Masks of the `wanted` highest finite scores of every block."""
    if shared:
        sizes = {len(part): part for part in parts if len(part)}
        masks = {size: _top([part], wanted, at_least_one)[0] for size, part in sizes.items()}
        return [masks[len(part)] if len(part) else part.bool() for part in parts]
    return _top(parts, wanted, at_least_one)


def _top(parts: Sequence[Tensor], wanted: Wanted, at_least_one: bool) -> list[Tensor]:
    """Masks of the `wanted` highest finite scores over all parts together; ties go to the first."""
    flat = [part.flatten().clone() for part in parts]
    count = _count(wanted, sum(int(part.isfinite().sum()) for part in flat))
    if at_least_one:
        live = [part for part in flat if bool(part.isfinite().any())]
        for part in live:
            part[part.argmax()] = math.inf
        count = max(count, len(live))
    ranked = torch.cat(flat)
    mask = torch.zeros(len(ranked), dtype=torch.bool)
    mask[ranked.argsort(descending=True, stable=True)[:count]] = True
    pieces = torch.split(mask, [len(part) for part in flat])
    return [piece.view(part.shape) for piece, part in zip(pieces, parts, strict=True)]


def _count(wanted: Wanted, total: int) -> int:
    most = 1 if isinstance(wanted, float) else total
    if isinstance(wanted, bool) or not 0 <= wanted <= most:
        raise ConfigError(
            f"{wanted!r} cannot be kept of {total}; give a share from 0.0 to 1.0 or a count up to {total}."
        )
    return math.floor(wanted * total + 0.5) if isinstance(wanted, float) else wanted


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


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().clone()
