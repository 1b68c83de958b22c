"""The state of a training between two epochs, in one file that is read without unpickling.

Randomness needs no state: it is derived from seed and epoch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from e2vpt.backbones.families import plain_name
from e2vpt.config import TrainConfig
from e2vpt.config.fields import to_dict
from e2vpt.errors import AdapterFormatError, RunError
from e2vpt.files.container import read_container, write_container

Row = dict[str, float]
Tensors = dict[str, Tensor]


def on_validation(row: Row) -> tuple[float, float]:
    """What epochs are ranked by, the higher the better: accuracy, then loss."""
    return row["val_accuracy"], -row["val_loss"]


@dataclass(kw_only=True, slots=True)
class Progress:
    """How far a training has come.

    Attributes:
        history: one row of figures per finished epoch.
        best: trained tensors of the best epoch so far.
        best_epoch: its index in the history; -1 before the first.
        average: trained tensors averaged over the steps so far; none where nothing is averaged.
    """

    history: list[Row]
    best: Tensors
    best_epoch: int
    average: Tensors = field(default_factory=dict)

    def is_better(self, row: Row) -> bool:
        """Whether a new epoch is better on validation than the best before it."""
        if self.best_epoch < 0:
            return True
        return on_validation(row) > on_validation(self.history[self.best_epoch])

    def is_over(self, patience: int) -> bool:
        """Whether the last `patience` epochs, where that is not 0, have brought nothing better."""
        return bool(patience and self.history) and len(self.history) - 1 - self.best_epoch >= patience


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Every parameter that requires grad, by its name in the model before torch.compile."""
    return {plain_name(name): p for name, p in model.named_parameters() if p.requires_grad}


def trained_state(model: nn.Module) -> Tensors:
    """A copy of every parameter that requires grad, by name."""
    return {name: p.detach().clone() for name, p in trained_parameters(model).items()}


@torch.no_grad()
def load_trained(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put such a copy back."""
    for name, parameter in trained_parameters(model).items():
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
    tensors |= {f"average.{name}": tensor for name, tensor in progress.average.items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": v for key, v in values.items() if isinstance(v, Tensor)}
    # As bytes: a header is bounded, and a training has as many epochs as it has.
    tensors["history"] = torch.tensor(list(json.dumps(progress.history).encode()), dtype=torch.uint8)
    header = {
        "kind": "checkpoint",
        "config": to_dict(config),
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
    trained = trained_parameters(model)
    saved = {name[6:]: tensor for name, tensor in tensors.items() if name.startswith("model.")}
    shapes = {name: tuple(t.shape) for name, t in saved.items()}
    if shapes != {name: tuple(p.shape) for name, p in trained.items()}:
        raise RunError(
            f"Cannot resume: {path} holds other parameters than this model trains. Use another --out."
        )
    device = next(iter(trained.values())).device
    best, average = (
        {name.removeprefix(kind): t.to(device) for name, t in tensors.items() if name.startswith(kind)}
        for kind in ("best.", "average.")
    )
    try:
        history = json.loads(bytes(tensors["history"].tolist()))
        for number, row in enumerate(history, 1):  # earlier versions counted from 0
            row["epoch"] = number
        if config.average:
            average = {name: average[name].view_as(parameter) for name, parameter in trained.items()}
        progress = Progress(history=history, best=best, best_epoch=header["best_epoch"], average=average)
        load_trained(model, saved)
        _load_optimizer(optimizer, tensors)
        scaler.load_state_dict(header["scaler"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise RunError(
            f"Cannot resume: {path} is not whole, or of another version of e2vpt ({error})."
        ) from error
    return progress


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
