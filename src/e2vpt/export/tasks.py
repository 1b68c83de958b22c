"""Many tasks on one backbone as a single file: each image comes with the vector of its task.

Shapes: B images, P numbers of a task, C classes of the task that has most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F

from e2vpt.errors import ConfigError, check_type
from e2vpt.export.checked import BATCHES, Exported, ExportFormat, Reference, check_target, write_checked
from e2vpt.export.graphs import EXAMPLES, trace
from e2vpt.export.task import notes_of, random_images
from e2vpt.files.atomic import write_atomic
from e2vpt.files.paths import check_file_place
from e2vpt.multitask.graph import NO_CLASS
from e2vpt.multitask.tasks import MultiTask


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportedTasks(Exported):
    """Two files that were written.

    Attributes:
        vectors: the one with the vector [P] of each task, by name (safetensors).
    """

    vectors: Path


def export_tasks(tasks: MultiTask, path: str | PathLike[str], form: ExportFormat = "onnx") -> ExportedTasks:
    """Write the backbone of many tasks to one file, and what each of the tasks brings beside it.

    Inputs `images` [B, 3, h, w], each preprocessed for its task, and `vectors` [B, P] of these tasks, both
    float32. Output `logits` [B, C]; those of classes that a task does not have are `NO_CLASS`. The file says
    the tasks' classes and preprocessing. It is computed with before it is kept.

    Raises:
        ConfigError: no tasks, tasks for images of different sizes, or an unknown format.
        MissingExtra: ONNX without onnx, onnxruntime and onnxscript.
        ExportError: the model cannot be exported, or the file computes something else.
        RunError: the files cannot be written.
    """
    check_type("tasks", tasks, MultiTask)
    check_type("path", path, str, PathLike)
    path = Path(path)
    beside = path.with_name(f"{path.stem}.vectors.safetensors")
    check_target(path, form)
    check_file_place(beside)
    graph = tasks.graph().eval()
    infos = {name: tasks.info(name) for name in graph.vectors}
    sizes = {info.preprocessing.image_size for info in infos.values()}
    if len(sizes) > 1:
        raise ConfigError(f"The tasks take images of different sizes, {sorted(sizes)}; a graph has one.")
    prep = next(iter(infos.values())).preprocessing
    names = list(graph.vectors)
    examples = [(names * EXAMPLES)[:EXAMPLES], *((names * batch)[:batch] for batch in BATCHES)]
    first, *others = (
        {"images": random_images(prep, len(n)), "vectors": _stacked(graph.vectors, n)} for n in examples
    )
    references = [
        Reference(inputs=given, logits=_logits(tasks, given["images"], batch, graph.num_classes))
        for given, batch in zip(others, examples[1:], strict=True)
    ]
    notes = {
        "tasks": {name: notes_of(info) for name, info in infos.items()},
        "layout": {name: list(shape) for name, shape in graph.layout.shapes.items()},
    }
    program = trace(graph, list(first.values()))
    made = write_checked(path, program, form, notes, references)
    write_atomic(beside, safetensors.torch.save(graph.vectors))
    return ExportedTasks(path=path, bytes=made.bytes, difference=made.difference, vectors=beside)


def _stacked(vectors: Mapping[str, Tensor], names: list[str]) -> Tensor:
    return torch.stack([vectors[name] for name in names])


def _logits(tasks: MultiTask, images: Tensor, names: list[str], num_classes: int) -> Tensor:
    """What the tasks themselves give, [B, C]."""
    found = [row.cpu().float() for row in tasks(images, names)]
    return torch.stack([F.pad(row, (0, num_classes - len(row)), value=NO_CLASS) for row in found])
