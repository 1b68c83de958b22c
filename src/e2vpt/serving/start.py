"""From adapters on the command line to a service: one backbone, loaded once, for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from e2vpt.backbones.load import load_backbone
from e2vpt.backbones.placing import placed
from e2vpt.errors import AdapterError, ConfigError, E2VPTError, RunError
from e2vpt.files.paths import look_at
from e2vpt.multitask.tasks import MultiTask
from e2vpt.runs.folders.finding import adapter_path, task_name
from e2vpt.runs.models.load import plain_backbone
from e2vpt.serving.limits import Limits
from e2vpt.serving.service import Service
from e2vpt.serving.store import Store

NamedAdapter = tuple[str, Path]
Precision = Literal["fp32", "bf16"]
_DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
_ROOM_ON_CPU = 4 * 2**30


def named_adapter(word: str) -> NamedAdapter:
    """A task's name and adapter file, of `NAME=PATH`, or of a path whose last part is the name.

    Raises:
        RunError: there is no adapter at that path.
    """
    name, equals, rest = word.partition("=")
    if equals and "/" not in name and look_at(Path(word)) == "nothing":
        return name, adapter_path(rest)
    path = adapter_path(word)
    return task_name(path), path


def open_service(
    adapters: Sequence[NamedAdapter],
    *,
    backbone: str | None = None,
    weights: Path | None = None,
    store: Path | None = None,
    limits: Limits | None = None,
    device: str | None = None,
    precision: Precision = "fp32",
) -> tuple[Service, list[str]]:
    """A service with these tasks and those of the store, and why some of the store's could not be loaded.

    The backbone is the one named, else that of the first adapter, or in it where that is a bundle, in the
    image size of its task; `weights` and `device` are as in `runs.models.load.load`, `precision` that of the
    forward pass.

    Raises:
        ConfigError: two tasks of one name, neither a backbone nor an adapter that names one, or a device that
            cannot be used.
        BackboneMismatch: an adapter of another backbone, of a method that changes what tasks share, or of a
            backbone that a file must not choose.
        AdapterFormatError, BackboneError, RunError: a file, the weights or the store cannot be used.
    """
    limits = limits or Limits()
    kept = None if store is None else Store(store)
    stored = [] if kept is None else list(kept.paths.values())
    model = _backbone_of([path for _, path in adapters], stored, backbone, weights)
    on_device = max(1024, limits.max_batch)
    tasks = MultiTask(placed(model, device), on_device=on_device, device_bytes=_room(model))
    tasks.to(_DTYPES[precision])  # The weights were compared in their own precision.
    service = Service(tasks, limits, kept)
    for task, path in adapters:
        service.catalogue.add(task, path)
    return service, service.catalogue.restore()


def _backbone_of(
    named: Sequence[Path], stored: Sequence[Path], backbone: str | None, weights: Path | None
) -> nn.Module:
    """The backbone of the first adapter; of the store's, of the first that can be read."""
    if named:
        return plain_backbone(named[0], backbone, weights=weights)
    problem: E2VPTError = ConfigError("There is no adapter that names its backbone. Name it with --backbone.")
    for path in stored:  # One lost file must not keep the other tasks from answering.
        try:
            return plain_backbone(path, backbone, weights=weights)
        except (AdapterError, RunError) as error:
            problem = error
    if backbone is None:
        raise problem
    return load_backbone(backbone, num_classes=1, weights=weights)


def _room(model: nn.Module) -> int:
    """Bytes for the values of tasks, on the device of a model."""
    device = next(model.parameters()).device
    if device.type != "cuda":
        return _ROOM_ON_CPU
    free: int = torch.cuda.mem_get_info(device)[0]
    return free // 4  # of values, and of heads
