"""The model of one task as a file of its own.

Shapes: B images, C classes.
"""

from __future__ import annotations

import copy
from os import PathLike
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from e2vpt.adapters.info import AdapterInfo
from e2vpt.data.preprocess import TENSORFLOW, Preprocessing
from e2vpt.errors import ConfigError, check_type
from e2vpt.export.checked import BATCHES, Exported, Reference, check_target, write_checked
from e2vpt.export.formats import ExportFormat
from e2vpt.export.graphs import EXAMPLES, FromPixels, trace
from e2vpt.export.plain import plain_copy
from e2vpt.runs.models.task_model import TaskModel


def export_task(
    task: TaskModel,
    path: str | PathLike[str],
    form: ExportFormat = "onnx",
    *,
    with_preprocessing: bool = False,
) -> Exported:
    """Write a task's model, its prompts folded into constants, to a file that runs without this package.

    Input `images` [B, 3, h, w] of float32, preprocessed; or, `with_preprocessing`, `pixels` [B, h, w, 3] of
    uint8, RGB, of the model's size, which the graph normalises. Output `logits` [B, C]; B is free. The file
    says its classes, preprocessing, method and versions. It is computed with before it is kept.

    Raises:
        ConfigError: an unknown format, or pixels of a preprocessing whose resized images are no integers.
        MissingExtra: ONNX without onnx, onnxruntime and onnxscript.
        ExportError: the model cannot be exported, or the file computes something else.
        RunError: the file cannot be written.
    """
    check_type("task", task, TaskModel)
    check_type("path", path, str, PathLike)
    preprocessing = task.info.preprocessing
    if with_preprocessing and preprocessing.interpolation == TENSORFLOW:
        raise ConfigError(
            f"{task.path} has images resized in floats ({TENSORFLOW}), which uint8 pixels cannot hold. "
            "Export it without the preprocessing."
        )
    check_target(Path(path), form, [task.path])
    model: nn.Module = plain_copy(task.model)
    model = FromPixels(model, preprocessing) if with_preprocessing else model
    name = "pixels" if with_preprocessing else "images"
    found = references(task, name)
    program = trace(model.eval(), [_random(name, preprocessing, EXAMPLES)])
    return write_checked(Path(path), program, form, notes_of(task.info), found)


def notes_of(info: AdapterInfo) -> dict[str, Any]:
    """What an exported file says of a task."""
    import e2vpt  # not at the top: the package imports this module

    return {
        "classes": list(info.classes),
        "preprocessing": info.preprocessing.to_dict(),
        "method": info.method,
        "backbone": info.backbone,
        "fingerprint": info.fingerprint,
        "versions": {module.__name__: str(module.__version__) for module in (e2vpt, timm, torch)},
    }


def references(task: TaskModel, name: str) -> list[Reference]:
    """Random `images` or `pixels` in batches, and what the model gives for them before anything is folded."""
    # Computed where files are: GPUs multiply with fewer digits, and a model may be in half precision.
    model = copy.deepcopy(task.model).cpu().float()
    return [_reference(model, task.info.preprocessing, name, batch) for batch in BATCHES]


@torch.no_grad()
def _reference(model: nn.Module, prep: Preprocessing, name: str, batch: int) -> Reference:
    given = images = _random(name, prep, batch)
    if name == "pixels":
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (prep.mean, prep.std))
        images = (given.movedim(-1, 1) / 255 - mean) / std
    logits: Tensor = model(images)
    return Reference(inputs={name: given}, logits=logits)


def _random(name: str, preprocessing: Preprocessing, batch: int) -> Tensor:
    """`images` [B, 3, h, w], or `pixels` [B, h, w, 3]."""
    if name == "images":
        return random_images(preprocessing, batch)
    generator = torch.Generator().manual_seed(batch)
    size = (batch, *preprocessing.image_size, 3)
    return torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)


def random_images(preprocessing: Preprocessing, batch: int) -> Tensor:
    """Images [B, 3, h, w] that a file is tried with, always the same."""
    return torch.randn(batch, 3, *preprocessing.image_size, generator=torch.Generator().manual_seed(batch))
