"""Many tasks in one file: each image comes with the vector of its task, and gets that task's logits."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from safetensors.torch import load_file
from support.backbones_for_tests import images_for, tiny_swin, tiny_vit
from support.exported_for_tests import logits_alone
from support.tasks_of_many import KINDS, write_adapter
from torch import Tensor, nn

from e2vpt import MultiTask, load_backbone
from e2vpt.errors import ConfigError, RunError
from e2vpt.export.tasks import export_tasks
from e2vpt.multitask.graph import NO_CLASS

pytestmark = pytest.mark.usefixtures("one_thread")


def vit(dtype: torch.dtype) -> nn.Module:
    return tiny_vit(dtype, depth=2)


def swin(dtype: torch.dtype) -> nn.Module:
    return tiny_swin(dtype, depths=(2, 1))


def tasks_on(make: Any, folder: Path) -> tuple[MultiTask, Any]:
    backbone = make(torch.float32)
    tasks = MultiTask(copy.deepcopy(backbone))
    for name, (num_classes, options) in KINDS.items():
        tasks.load(name, write_adapter(folder / name, backbone, num_classes, **options))
    return tasks, backbone


def assert_answers(tasks: MultiTask, images: Tensor, names: list[str], logits: Tensor) -> None:
    for row, expected in zip(logits, tasks(images, names), strict=True):
        torch.testing.assert_close(row[: len(expected)], expected, atol=1e-4, rtol=0)
        assert bool((row[len(expected) :] == NO_CLASS).all())


@pytest.mark.parametrize("make", [vit, swin])
def test_onnx_gives_each_image_the_logits_of_its_task(make: Any, tmp_path: Path) -> None:
    tasks, backbone = tasks_on(make, tmp_path)
    made = export_tasks(tasks, tmp_path / "tasks.onnx")
    assert made.difference <= 1e-4
    vectors = load_file(made.vectors)
    assert list(vectors) == sorted(KINDS)
    batches = [["norms"], [*KINDS, *reversed(KINDS)][:7]]
    given = [
        {"images": images_for(backbone, len(names)), "vectors": torch.stack([vectors[n] for n in names])}
        for names in batches
    ]
    for names, batch, logits in zip(batches, given, logits_alone(made.path, *given), strict=True):
        assert_answers(tasks, batch["images"], names, logits)
    notes = {entry.key: json.loads(entry.value) for entry in onnx.load(made.path).metadata_props}
    assert {name: len(task["classes"]) for name, task in notes["tasks"].items()} == {
        name: num_classes for name, (num_classes, _) in KINDS.items()
    }
    assert vectors["mixed"].numel() == sum(
        int(torch.tensor(shape).prod()) for shape in notes["layout"].values()
    )


def test_torch_export_gives_each_image_the_logits_of_its_task(tmp_path: Path) -> None:
    tasks, backbone = tasks_on(vit, tmp_path)
    made = export_tasks(tasks, tmp_path / "tasks.pt2", "torch-export")
    vectors, module = load_file(made.vectors), torch.export.load(made.path).module()
    names, images = ["linear", "mixed", "norms"], images_for(backbone, 3)
    assert_answers(tasks, images, names, module(images, torch.stack([vectors[name] for name in names])))


def test_what_cannot_be_one_graph_is_refused(tmp_path: Path) -> None:
    tasks = MultiTask(load_backbone("demo", num_classes=0))
    with pytest.raises(ConfigError, match="no task"):
        export_tasks(tasks, tmp_path / "out")
    with pytest.raises(RunError, match="is no folder"):
        export_tasks(tasks, tmp_path / "missing" / "out", "torch-export")
    assert not list(tmp_path.iterdir())
