"""The parts of a prompted model: its prompts, its head, what is tuned beside them; on, off, evaluating."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from e2vpt.backbones.families import plain_name, unwrapped
from e2vpt.errors import ConfigError, check_type
from e2vpt.prompting.prompts import BlockPrompts


def prompt_layers(model: nn.Module) -> list[BlockPrompts]:
    """The prompts of every block, in forward order.

    Raises:
        ConfigError: the model has none.
    """
    layers = find_prompts(model)
    if not layers:
        raise ConfigError("This model has no prompts; call e2vpt.prompt(backbone, config) first.")
    return layers


def find_prompts(model: nn.Module) -> list[BlockPrompts]:
    """The prompts of every block, in forward order; none of a model that has no room for prompts."""
    check_type("model", model, nn.Module)
    return [module for module in model.modules() if isinstance(module, BlockPrompts)]


@contextmanager
def disabled(model: nn.Module) -> Iterator[None]:
    """Inside the block the model computes what its backbone and head compute without prompts."""
    layers = prompt_layers(model)
    before = [layer.enabled for layer in layers]
    for layer in layers:
        layer.enabled = False
    try:
        yield
    finally:
        for layer, enabled in zip(layers, before, strict=True):
            layer.enabled = enabled


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards every module is back in its own mode."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def classifier(model: nn.Module) -> nn.Module:
    """The head of a timm model."""
    return unwrapped(model.get_classifier())  # type: ignore[operator]


def tuned_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """What is tuned beside prompts and head, by name."""
    parts = [classifier(model), *find_prompts(model)]
    known = {id(p) for part in parts for p in part.parameters()}
    named = ((plain_name(name), p) for name, p in model.named_parameters())
    return {name: p for name, p in named if p.requires_grad and id(p) not in known}
