"""A backbone as it was before prompts, or another method, came into it; so that adapters can take turns."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from e2vpt.backbones.families import plain_name
from e2vpt.errors import ConfigError

_REMEMBERED = "backbone_before"


@dataclass(frozen=True, slots=True, eq=False)
class Before:
    """What `restore` puts back.

    Attributes:
        children: every parent, the name of a child, and the child.
        attributes: names of what lay on the model itself.
        trainable: every parameter, and whether it required grad.
        values: what tuned parameters of the backbone were, by name; filled by `keep_values`.
        lost: names of parameters that were tuned and not kept.
    """

    children: list[tuple[nn.Module, str, nn.Module]]
    attributes: frozenset[str]
    trainable: list[tuple[nn.Parameter, bool]]
    values: dict[str, tuple[nn.Parameter, Tensor]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)


def remember(model: nn.Module) -> None:
    """Keep what a plain backbone is made of; nothing, where that has been done already."""
    if hasattr(model, _REMEMBERED):
        return
    before = Before(
        children=[(p, name, child) for p in model.modules() for name, child in p.named_children()],
        attributes=frozenset(vars(model)),
        trainable=[(parameter, parameter.requires_grad) for parameter in model.parameters()],
    )
    setattr(model, _REMEMBERED, before)


def keep_values(model: nn.Module, names: Collection[str]) -> None:
    """Keep the values of parameters that are about to be tuned; of vectors only, as matrices take memory."""
    before: Before = getattr(model, _REMEMBERED)
    known = {id(parameter) for parameter, _ in before.trainable}
    for name, parameter in model.named_parameters():
        if plain_name(name) not in names or id(parameter) not in known:
            continue
        if parameter.dim() > 1:
            before.lost.append(plain_name(name))
        else:
            before.values[plain_name(name)] = (parameter, parameter.detach().clone())


@torch.no_grad()
def restore(model: nn.Module) -> None:
    """Make a model of `prompt` or `adapt` the plain backbone again, under the head it has now.

    Raises:
        ConfigError: its method tuned weight matrices, which are not kept.
    """
    before: Before | None = getattr(model, _REMEMBERED, None)
    if before is None:
        return
    if before.lost:
        raise ConfigError(
            f"This backbone was tuned itself ({before.lost[0]} and {len(before.lost) - 1} more). "
            "Load a fresh backbone for another adapter."
        )
    # First of all, as some of these parameters are replaced below.
    for parameter, value in before.values.values():
        parameter.copy_(value)
    for parameter, required in before.trainable:
        parameter.requires_grad_(required)
    head = model.get_classifier()  # type: ignore[operator]
    known = {(id(parent), name) for parent, name, _ in before.children}
    for parent, name, child in before.children:
        now = parent._modules.get(name)
        if now is not head and now is not child:
            _follow(child, now)
            setattr(parent, name, child)
    for name in [name for name in model._modules if (id(model), name) not in known]:
        delattr(model, name)
    for name in vars(model).keys() - before.attributes:
        delattr(model, name)


def _follow(old: nn.Module, now: nn.Module | None) -> None:
    """Bring a module, with all that is in it, to the mode, device and dtype of what stood in its place."""
    if now is None or now is old:
        return
    old.train(now.training)
    old._buffers.update({name: buffer for name, buffer in now._buffers.items() if name in old._buffers})
    for name, parameter in old._parameters.items():
        like = now._parameters.get(name)
        if parameter is not None and like is not None and like is not parameter:
            old._parameters[name] = nn.Parameter(parameter.to(like), parameter.requires_grad)
    for name, child in old.named_children():
        _follow(child, now._modules.get(name))
