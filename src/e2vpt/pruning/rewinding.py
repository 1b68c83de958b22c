"""Back to what was: copies of all that is tuned, and pruning again what they are put back into."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from e2vpt.prompting.parts import classifier, find_prompts, tuned_parameters
from e2vpt.pruning.applying import apply
from e2vpt.pruning.selection import Selection


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Snapshot:
    """Copies of all prompts, of the head, and of what is tuned beside them, to return to."""

    layers: tuple[dict[str, Tensor | None], ...]
    head: dict[str, Tensor]
    beside: dict[str, Tensor]


def snapshot(model: nn.Module) -> Snapshot:
    """All that is tuned, and the keep masks, as they are now; taken before the first step, the origin."""
    copies = [
        {name: _copy(getattr(layer, name)) for name in ("visual", "keep", "key", "value", "gate")}
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


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().clone()
