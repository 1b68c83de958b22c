"""Back to what was: copies of all that is tuned, and pruning again what they are put back into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from e2vpt.errors import ConfigError
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


def rewind(
    model: nn.Module,
    origin: Snapshot,
    selection: Selection | None = None,
    optimizer: torch.optim.Optimizer | None = None,
) -> None:
    """Go back to a snapshot, pruned prompts included; then, with `selection`, prune again (paper, 3.3).

    Prompts whose number changes become new Parameters. `optimizer` trains those from then on, and forgets
    the state of everything that is rewound. One that is not given here has to be made anew.

    Raises:
        ConfigError: `optimizer` holds none of a block's prompts, as pruning had removed them all.
    """
    before = [dict(layer.named_parameters()) for layer in find_prompts(model)]
    if optimizer is not None:
        _check_held(before, origin)
    device = next(model.parameters()).device
    for layer, values in zip(find_prompts(model), origin.layers, strict=True):
        layer.resize(**{name: None if t is None else t.to(device) for name, t in values.items()})
    classifier(model).load_state_dict(origin.head)
    with torch.no_grad():
        for name, parameter in tuned_parameters(model).items():
            parameter.copy_(origin.beside[name])
    for parameter in _rewound(model):
        parameter.grad = None  # of values that are gone
    if optimizer is not None:
        _hand_over(optimizer, before, model)
    if selection is not None:
        apply(model, selection, optimizer)


def _check_held(before: Sequence[Mapping[str, nn.Parameter]], origin: Snapshot) -> None:
    for number, (held, values) in enumerate(zip(before, origin.layers, strict=True), 1):
        missing = [name for name in ("visual", "key") if values[name] is not None and name not in held]
        if missing:
            raise ConfigError(
                f"Pruning removed all prompts ({missing[0]}) of block {number}, also from the optimizer. "
                "Rewind without `optimizer`, and make a new one."
            )


def _hand_over(
    optimizer: torch.optim.Optimizer, before: Sequence[Mapping[str, nn.Parameter]], model: nn.Module
) -> None:
    """Have an optimizer hold the prompts as they are now, with no state of anything that was rewound."""
    layers = find_prompts(model)
    new = {
        old: getattr(layer, name)
        for layer, held in zip(layers, before, strict=True)
        for name, old in held.items()
    }
    for group in optimizer.param_groups:
        now = [new.get(parameter, parameter) for parameter in group["params"]]
        group["params"] = [parameter for parameter in now if parameter is not None]
    for parameter in (*new, *_rewound(model)):
        optimizer.state.pop(parameter, None)


def _rewound(model: nn.Module) -> list[nn.Parameter]:
    parts = [*find_prompts(model), classifier(model)]
    return [*(p for part in parts for p in part.parameters()), *tuned_parameters(model).values()]


def _copy(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().clone()
