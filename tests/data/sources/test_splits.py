"""Splitting off is stratified and fixed by its seed; names of splits; class names become numbers."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2vpt.config import DataConfig
from e2vpt.data.decoding.images import ImageInMemory
from e2vpt.data.sources.splits import Labelled, build_task, split_name, split_of_cell, stratified_split
from e2vpt.errors import DataError


@given(st.lists(st.integers(0, 5), max_size=60), st.floats(0.01, 0.9), st.integers(0, 9))
def test_stratified_split(labels: list[int], fraction: float, seed: int) -> None:
    rest, taken = stratified_split(labels, fraction, seed)
    assert sorted(rest + taken) == list(range(len(labels)))
    assert rest == sorted(rest) and taken == sorted(taken)
    for label, count in Counter(labels).items():
        off = sum(labels[i] == label for i in taken)
        assert off == min(max(1, round(count * fraction)), count - 1)
    assert (rest, taken) == stratified_split(labels, fraction, seed)


def test_stratified_split_depends_on_the_seed_and_on_nothing_else() -> None:
    assert stratified_split([0] * 5 + [1] * 5, 0.4, 0)[1] == [1, 4, 6, 8]
    assert len({tuple(stratified_split([0] * 20, 0.5, seed)[1]) for seed in range(5)}) == 5


def test_another_class_does_not_change_a_class_s_share() -> None:
    alone = stratified_split([0] * 10, 0.3, 0)[1]
    assert [i for i in stratified_split([0] * 10 + [1] * 4, 0.3, 0)[1] if i < 10] == alone


def test_nothing_is_split_off_at_fraction_zero() -> None:
    assert stratified_split([0, 0, 1, 1], 0.0, 0) == ([0, 1, 2, 3], [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train", "train"),
        ("Valid", "val"),
        (" validation ", "val"),
        ("VAL", "val"),
        ("test", "test"),
        ("x", None),
    ],
)
def test_split_names(text: str, expected: str | None) -> None:
    assert split_name(text) == expected


def _labelled(**counts: int) -> Labelled:
    return [
        (ImageInMemory(name=f"{name}{i}", pixels=np.zeros((4, 4))), name)
        for name, n in counts.items()
        for i in range(n)
    ]


def test_all_is_divided_in_three_by_shares_of_the_whole() -> None:
    config = DataConfig(val_fraction=0.1, test_fraction=0.2)
    task = build_task("t", ["a", "b"], {"all": _labelled(a=100, b=50)}, config)
    assert task.val is not None and task.test is not None
    assert [Counter(split.labels) for split in (task.train, task.val, task.test)] == [
        {0: 70, 1: 35},
        {0: 10, 1: 5},
        {0: 20, 1: 10},
    ]
    names = [image.name for split in task.splits().values() for image in split.images]
    assert len(set(names)) == 150


def test_missing_val_comes_from_train_and_missing_test_stays_missing() -> None:
    task = build_task("t", ["a", "b"], {"train": _labelled(a=10, b=10)}, DataConfig(val_fraction=0.2))
    assert (len(task.train), len(task.val or ()), task.test) == (16, 4, None)
    given_val = build_task(
        "t", ["a", "b"], {"train": _labelled(a=10, b=9), "val": _labelled(b=1)}, DataConfig()
    )
    assert (len(given_val.train), len(given_val.val or ())) == (19, 1)


def test_fractions_of_zero_leave_splits_out() -> None:
    config = DataConfig(val_fraction=0.0, test_fraction=0.0)
    assert build_task("t", ["a", "b"], {"all": _labelled(a=1, b=1)}, config).splits().keys() == {"train"}


def test_refusals() -> None:
    with pytest.raises(DataError, match="test has class 'dgo', unknown to train"):
        build_task(
            "t", ["cat", "dog"], {"train": _labelled(cat=2, dog=2), "test": _labelled(dgo=1)}, DataConfig()
        )
    with pytest.raises(DataError, match="no image can be spared for val"):
        build_task("t", ["a", "b"], {"train": _labelled(a=1, b=1)}, DataConfig())
    with pytest.raises(DataError, match="no training images; found only test"):
        build_task("t", ["a", "b"], {"test": _labelled(a=1, b=1)}, DataConfig())


@pytest.mark.parametrize(
    ("cell", "which"),
    [
        *(("train", "train"), (" Training ", "train"), ("TRAIN_IMAGES", "train"), ("val-set", "val")),
        *(("validation", "val"), ("testing", "test"), ("not_train", None), ("train/test", None), ("", None)),
        *(("exclude from train", None), ('train"', None), ("strain", None)),
    ],
)
def test_a_cell_means_a_split_or_nothing(cell: str, which: str | None) -> None:
    assert split_of_cell(cell) == which
