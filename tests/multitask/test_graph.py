"""One graph of images and vectors gives what the tasks give."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from support.backbones_for_tests import images_for, tiny_swin, tiny_vit
from support.tasks_of_many import KINDS, write_adapter

from e2vpt import MultiTask
from e2vpt.errors import ConfigError
from e2vpt.multitask.graph import NO_CLASS

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("make", [tiny_vit, tiny_swin])
def test_the_graph_gives_what_the_tasks_give(make: Any, tmp_path: Path) -> None:
    backbone = make(torch.float32)
    tasks = MultiTask(copy.deepcopy(backbone))
    for name, (num_classes, options) in KINDS.items():
        tasks.load(name, write_adapter(tmp_path / name, backbone, num_classes, **options))
    names = [*KINDS, *reversed(KINDS)]
    images = images_for(backbone, len(names))
    graph = tasks.graph()
    with torch.no_grad():
        found = graph(images, torch.stack([graph.vectors[name] for name in names]))
    assert found.shape == (len(names), max(num_classes for num_classes, _ in KINDS.values()))
    for row, expected in zip(found, tasks(images, names), strict=True):
        torch.testing.assert_close(row[: len(expected)], expected, atol=1e-5, rtol=1e-5)
        assert bool((row[len(expected) :] == NO_CLASS).all())
        assert float(row.softmax(0)[: len(expected)].sum()) == pytest.approx(1)


def test_the_tasks_stay_as_they_are(tmp_path: Path) -> None:
    backbone = tiny_vit(torch.float32)
    tasks = MultiTask(copy.deepcopy(backbone))
    with pytest.raises(ConfigError, match="no task to make a graph of"):
        tasks.graph()
    tasks.load("a", write_adapter(tmp_path / "a", backbone, 3, num_visual=2))
    with pytest.raises(ConfigError, match=r"rounded to torch.bfloat16.*Load it again, in float32"):
        tasks.to(torch.bfloat16).graph()
    tasks.to(torch.float32)
    images = images_for(backbone)
    before = tasks(images, ["a", "a"])
    graph = tasks.graph()
    with torch.no_grad():
        for parameter in graph.parameters():
            parameter.zero_()
    assert all(torch.equal(*rows) for rows in zip(tasks(images, ["a", "a"]), before, strict=True))
