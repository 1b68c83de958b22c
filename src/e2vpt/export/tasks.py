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

from e2vpt.data.preprocess import Preprocessing
from e2vpt.errors import ConfigError, check_type
from e2vpt.export.checked import BATCHES, Exported, Reference, check_target, write_checked
from e2vpt.export.formats import ExportFormat
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


def vectors_path(path: Path) -> Path:
    """Where the vectors of the tasks in an exported file lie."""
    return path.with_name(f"{path.stem}.vectors.safetensors")


def export_tasks(tasks: MultiTask, path: str | PathLike[str], form: ExportFormat = "onnx") -> ExportedTasks:
    """Write the backbone of many tasks to one file, and what each of the tasks brings beside it.

    Inputs `images` [B, 3, h, w], each preprocessed for its task, and `vectors` [B, P] of these tasks, both
    float32. Output `logits` [B, C]; those of classes that a task does not have are `NO_CLASS`. The file says
    the tasks' classes and preprocessing. It is computed with before it is kept.

    Raises:
        ConfigError: no tasks, tasks for images of different sizes, a backbone in half precision, or an
            unknown format.
        MissingExtra: ONNX without onnx, onnxruntime and onnxscript.
        ExportError: the model cannot be exported, or the file computes something else.
        RunError: the files cannot be written.
    """
    check_type("tasks", tasks, MultiTask)
    check_type("path", path, str, PathLike)
    path = Path(path)
    beside = vectors_path(path)
    check_target(path, form)
    check_file_place(beside)
    graph = tasks.graph().eval()
    infos = {name: tasks.info(name) for name in graph.vectors}
    sizes = {info.preprocessing.image_size for info in infos.values()}
    if len(sizes) > 1:
        raise ConfigError(f"The tasks take images of different sizes, {sorted(sizes)}; a graph has one.")
    prep = next(iter(infos.values())).preprocessing
    example, *groups = _groups(list(graph.vectors))
    references = []
    for names in groups:
        given = _inputs(graph.vectors, prep, names)
        logits = _logits(tasks, given["images"], names, graph.num_classes)
        references.append(Reference(inputs=given, logits=logits))
    notes = {
        "tasks": {name: notes_of(info) for name, info in infos.items()},
        "layout": {name: list(shape) for name, shape in graph.layout.shapes.items()},
    }
    program = trace(graph, list(_inputs(graph.vectors, prep, example).values()))
    made = write_checked(path, program, form, notes, references)
    write_atomic(beside, safetensors.torch.save(graph.vectors))
    return ExportedTasks(path=path, bytes=made.bytes, difference=made.difference, vectors=beside)


def _groups(names: list[str]) -> list[list[str]]:
    """Names for the images to trace with, and for batches to try with, each task in at least one."""
    few, many = BATCHES
    starts = range(0, len(names), many)
    return [(names * EXAMPLES)[:EXAMPLES], names[:few], *((names[i:] + names * many)[:many] for i in starts)]


def _inputs(
    vectors: Mapping[str, Tensor], preprocessing: Preprocessing, names: list[str]
) -> dict[str, Tensor]:
    """One random image for each name."""
    stacked = torch.stack([vectors[name] for name in names])
    return {"images": random_images(preprocessing, len(names)), "vectors": stacked}


def _logits(tasks: MultiTask, images: Tensor, names: list[str], num_classes: int) -> Tensor:
    """What the tasks themselves give, [B, C]."""
    with torch.backends.cudnn.flags(allow_tf32=False):  # as many digits as the file has
        found = [row.cpu().float() for row in tasks(images, names)]
    return torch.stack([F.pad(row, (0, num_classes - len(row)), value=NO_CLASS) for row in found])
