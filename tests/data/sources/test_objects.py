"""torchvision-style objects become tasks, read lazily."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset, TensorDataset

from e2vpt.data.sources.objects import from_datasets
from e2vpt.errors import DataError, UnreadableImages


class _Counted:
    """Ten images of two classes that count how often they are read."""

    def __init__(self, **attributes: Any) -> None:
        self.reads = 0
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        if index >= 10:
            raise IndexError(index)
        self.reads += 1
        return Image.new("RGB", (5, 4), (index, 0, 0)), index % 2


def test_targets_spare_reading_the_images() -> None:
    data = _Counted(targets=[i % 2 for i in range(10)], classes=["cat", "dog"])
    task = from_datasets("pets", data, test=data)
    assert data.reads == 0
    assert task.classes == ("cat", "dog")
    assert {name: len(split) for name, split in task.splits().items()} == {"train": 8, "val": 2, "test": 10}
    assert task.test is not None and task.test.images[7].open().getpixel((0, 0)) == (7, 0, 0)
    assert task.test.images[7].name == "pets test[7]"
    assert data.reads == 1


@pytest.mark.parametrize("extra", [{}, {"targets": [7] * 10, "target_transform": lambda y: y % 2}])
def test_without_plain_targets_labels_are_read(extra: dict[str, Any]) -> None:
    task = from_datasets("pets", _Counted(**extra), classes=["cat", "dog"])
    assert sorted(task.train_and_val().train.labels) == [0] * 5 + [1] * 5


def test_tensor_data_sets_subsets_and_lists_of_pairs() -> None:
    tensors = TensorDataset(torch.rand(10, 1, 8, 8), torch.arange(10) % 2)
    pairs = [(np.zeros((8, 8, 3), dtype=np.uint8), np.int64(i % 2)) for i in range(4)]
    task = from_datasets("t", Subset(tensors, range(8)), val=pairs, test=tensors)
    assert task.classes == ("0", "1")
    assert {image.open().size for split in task.splits().values() for image in split.images} == {(8, 8)}


def test_splits_with_their_own_numbering_are_read_by_names() -> None:
    train = _Counted(targets=[i % 3 for i in range(10)], classes=["bird", "cat", "dog"])
    lacking = _Counted(targets=[i % 2 for i in range(10)], classes=["cat", "dog"])
    task = from_datasets("pets", train, lacking, Subset(lacking, [0, 3]))
    assert task.val is not None and task.test is not None
    assert [task.classes[label] for label in task.val.labels] == ["cat", "dog"] * 5
    assert [task.classes[label] for label in task.test.labels] == ["cat", "dog"]
    assert from_datasets("pets", train, lacking, classes=["a", "b", "c"]).val.labels[:2] == (0, 1)  # type: ignore[union-attr]
    other = _Counted(targets=[0] * 10, classes=["fox"])
    with pytest.raises(
        DataError, match=r"pets val: images of 'fox'; expected classes of train: 'bird', 'cat'"
    ):
        from_datasets("pets", train, other)


def test_labels_that_fit_no_class() -> None:
    with pytest.raises(DataError, match=r"pets train: labels \[1\]; expected 0 to 0"):
        from_datasets("pets", _Counted(), classes=["cat"])
    with pytest.raises(DataError, match=r"pets train: 3 targets for 10 images"):
        from_datasets("pets", _Counted(targets=[0, 1, 0]))
    for label in (0.5, "dog", None, torch.zeros(2), float("inf")):
        with pytest.raises(DataError, match=r"pets train\[0\]: the label is .*; expected a whole number"):
            from_datasets("pets", _Counted(targets=[label] * 10))


def test_items_that_raise_are_all_named() -> None:
    class Broken(_Counted):
        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            if index in (3, 5):
                raise OSError("disk on fire")
            return super().__getitem__(index)

    with pytest.raises(UnreadableImages) as caught:
        from_datasets("pets", Broken())
    assert caught.value.problems == {
        "pets train[3]": "OSError: disk on fire",
        "pets train[5]": "OSError: disk on fire",
    }


def test_normalised_tensors_are_refused_when_opened() -> None:
    data = [(torch.full((3, 4, 4), -2.0), i % 2) for i in range(4)]
    task = from_datasets("t", data)
    with pytest.raises(UnreadableImages, match="not normalised"):
        task.train.images[0].open()
