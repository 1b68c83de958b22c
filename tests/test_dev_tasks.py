"""scripts/dev_tasks: drawn tasks come out the same each time, and a photograph is not taken twice."""

from __future__ import annotations

import importlib
import io
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
DRAWN = ["location9", "orientation8", "count8", "distance6"]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))

    def load(name: str) -> ModuleType:
        return importlib.import_module(f"scripts.dev_tasks.{name}")

    return load


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("name", DRAWN)
def test_a_drawn_task_is_the_same_bytes_each_time(module: Any, tmp_path: Path, name: str) -> None:
    drawn, write = module("drawn"), module("writing").write
    (task,) = [task for task in drawn.TASKS if task.name == name]
    for folder, seed in [("a", 0), ("b", 0), ("c", 1)]:
        rows = (("train", label, image, "drawn") for label, image in drawn.images(task, "train", 3, seed))
        write(tmp_path / folder, rows, "jpg")
    first, again, other = (files(tmp_path / folder) for folder in "abc")
    assert first == again
    assert sorted(first) == ["labels.csv", *(f"train/{task.classes[i]}/{i:04d}.jpg" for i in range(3))]
    assert all(first[path] != other[path] for path in first if path.endswith(".jpg"))


@pytest.mark.parametrize("name", DRAWN)
def test_splits_of_a_drawn_task_differ_and_its_label_changes_the_picture(module: Any, name: str) -> None:
    drawn = module("drawn")
    (task,) = [task for task in drawn.TASKS if task.name == name]
    (train,), (test,) = (list(drawn.images(task, split, 1)) for split in ("train", "test"))
    assert train[1].size == (128, 128)
    assert train[0] == test[0] and train[1].tobytes() != test[1].tobytes()
    pictures = {task.draw(np.random.default_rng(0), label).tobytes() for label in range(len(task.classes))}
    assert len(pictures) == len(task.classes)


def test_a_photograph_saved_again_is_not_new(module: Any) -> None:
    seen, scene = module("splitting").Seen(alike=16), module("backgrounds").scene
    one, other = (scene(np.random.default_rng(seed), lines=6) for seed in (1, 2))
    assert seen.is_new(one)
    saved = io.BytesIO()
    one.save(saved, "JPEG", quality=75)
    assert not seen.is_new(Image.open(saved))
    assert seen.is_new(other)


def test_repositories_that_are_not_there_are_named(module: Any, tmp_path: Path) -> None:
    task = module("photographs").TASKS[0]
    with pytest.raises(FileNotFoundError, match=task.repository.name):
        module("repositories").opened(tmp_path, task.repository)
