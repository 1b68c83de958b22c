"""The state of a training between two epochs, in one file that is read without unpickling.

Randomness needs no state: it is derived from seed and epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from e2vpt.config import TrainConfig
from e2vpt.config.fields import to_dict
from e2vpt.errors import AdapterFormatError, RunError
from e2vpt.files.container import read_container, write_container

Row = dict[str, float]
Tensors = dict[str, Tensor]


@dataclass(kw_only=True, slots=True)
class Progress:
    """How far a training has come.

    Attributes:
        history: one row of figures per finished epoch.
        best: trained tensors of the best epoch so far.
        best_epoch: that epoch, from 0; -1 before the first.
    """

    history: list[Row]
    best: Tensors
    best_epoch: int


def trained_state(model: nn.Module) -> Tensors:
    """A copy of every parameter that requires grad, by name."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def load_trained(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put such a copy back."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.copy_(state[name])


def save_checkpoint(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: Any,
    progress: Progress,
    config: TrainConfig,
) -> None:
    """Write the state after an epoch atomically."""
    tensors = {f"model.{name}": tensor for name, tensor in trained_state(model).items()}
    tensors |= {f"best.{name}": tensor for name, tensor in progress.best.items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": v for key, v in values.items() if isinstance(v, Tensor)}
    header = {
        "kind": "checkpoint",
        "config": to_dict(config),
        "history": progress.history,
        "best_epoch": progress.best_epoch,
        "scaler": scaler.state_dict(),
    }
    write_container(path, header, tensors)


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, scaler: Any, config: TrainConfig
) -> Progress:
    """Put the saved state into model, optimizer and scaler.

    Raises:
        RunError: the file is damaged, or of a training with other settings or other parameters.
    """
    try:
        header, tensors, _ = read_container(path)
    except AdapterFormatError as error:
        raise RunError(f"Cannot resume: {error}") from error
    _check_same_settings(path, header, config)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    saved = {name[6:]: tensor for name, tensor in tensors.items() if name.startswith("model.")}
    shapes = {name: tuple(t.shape) for name, t in saved.items()}
    if shapes != {name: tuple(p.shape) for name, p in trained.items()}:
        raise RunError(
            f"Cannot resume: {path} holds other parameters than this model trains. Use another --out."
        )
    load_trained(model, saved)
    _load_optimizer(optimizer, tensors)
    scaler.load_state_dict(header["scaler"])
    device = next(iter(trained.values())).device
    best = {name[5:]: tensor.to(device) for name, tensor in tensors.items() if name.startswith("best.")}
    return Progress(history=header["history"], best=best, best_epoch=header["best_epoch"])


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        scope, _, rest = name.partition(".")
        if scope == "optimizer":
            index, _, key = rest.partition(".")
            state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _check_same_settings(path: Path, header: Mapping[str, Any], config: TrainConfig) -> None:
    if header.get("kind") != "checkpoint":
        raise RunError(f"Cannot resume: {path} is not a checkpoint.")
    saved, wanted = header["config"], to_dict(config)
    different = [
        f"{name} {saved.get(name)!r} -> {wanted[name]!r}"
        for name in wanted
        if saved.get(name) != wanted[name]
    ]
    if different:
        raise RunError(
            f"Cannot resume {path} with other settings: {', '.join(different)}. "
            "Resume with the settings of the first run, or start a new run in another folder."
        )
