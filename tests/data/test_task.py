"""A task refuses what cannot be trained on, naming the class or split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from e2vpt.data.decoding.images import ImageInMemory
from e2vpt.data.task import Split, Task
from e2vpt.errors import DataError


def _split(*labels: int) -> Split:
    images = tuple(ImageInMemory(name=str(i), pixels=np.zeros((4, 4))) for i in range(len(labels)))
    return Split(images=images, labels=labels)


def test_splits_in_order_and_joined() -> None:
    task = Task(name="t", classes=("a", "b"), train=_split(0, 1, 1), val=_split(1))
    assert {name: len(split) for name, split in task.splits().items()} == {"train": 3, "val": 1}
    joined = task.train_and_val()
    assert joined.train.labels == (0, 1, 1, 1)
    assert [image.name for image in joined.train.images] == ["0", "1", "2", "0"]
    assert joined.val is None
    alone = Task(name="t", classes=("a", "b"), train=_split(0, 1))
    assert alone.train_and_val() is alone


def test_subset_keeps_images_with_their_labels() -> None:
    split = _split(0, 1, 2).subset([2, 0])
    assert split.labels == (2, 0)
    assert [image.name for image in split.images] == ["2", "0"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"classes": ("a",), "train": _split(0)}, r"classes found: 'a'; at least two"),
        ({"classes": (), "train": _split()}, "classes found: none"),
        ({"classes": ("a", "b", "a"), "train": _split(0, 1, 2)}, "class 'a' occurs twice"),
        ({"classes": ("a", " "), "train": _split(0, 1)}, "empty name"),
        ({"classes": ("a", "b", "c"), "train": _split(0, 0)}, "no training image of class 'b', 'c'"),
        ({"classes": ("a", "b"), "train": _split()}, "train has no images"),
        ({"classes": ("a", "b"), "train": _split(0, 1), "test": _split()}, "test has no images"),
        (
            {"classes": ("a", "b"), "train": _split(0, 1), "val": _split(2)},
            r"val has labels \[2\]; expected 0 to 1",
        ),
    ],
)
def test_bad_tasks(values: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Task(name="pets", **values)


def test_one_label_per_image() -> None:
    with pytest.raises(DataError, match="3 images but 1 labels"):
        Split(images=_split(0, 0, 0).images, labels=(1,))


def test_an_incomplete_task_may_lack_training_images_of_a_class() -> None:
    task = Task(name="t", classes=("a", "b", "c"), train=_split(0, 0), test=_split(1, 2), complete=False)
    assert task.classes == ("a", "b", "c") and not task.train_and_val().complete
    with pytest.raises(DataError, match="labels \\[3\\]"):
        Task(name="t", classes=("a", "b", "c"), train=_split(0, 3), complete=False)
