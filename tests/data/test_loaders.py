"""Loaders give the same numbers whatever the number of workers and processes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from e2vpt.data.batches import epoch_batches
from e2vpt.data.decoding.images import ImageFile, ImageInMemory
from e2vpt.data.loaders import Loader, make_loader
from e2vpt.data.preprocess import Preprocessing
from e2vpt.data.task import Split
from e2vpt.errors import ConfigError, DataError, UnreadableImages

_PREP = Preprocessing(image_size=(8, 8), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
_NOISE = np.random.default_rng(0).integers(0, 255, (64, 12, 12, 3), dtype=np.uint8)


def _split(count: int) -> Split:
    """Images whose label is their own number."""
    images = tuple(ImageInMemory(name=str(i), pixels=_NOISE[i]) for i in range(count))
    return Split(images=images, labels=tuple(range(count)))


def _epoch(loader: Loader, epoch: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    loader.set_epoch(epoch)
    return list(loader)


def _loader(count: int = 10, **settings: Any) -> Loader:
    return make_loader(_split(count), _PREP, **{"batch_size": 4, **settings})


def test_types_shapes_and_numbers() -> None:
    loader = _loader()
    batches = _epoch(loader)
    assert [tuple(images.shape) for images, _ in batches] == [(4, 3, 8, 8), (3, 3, 8, 8), (3, 3, 8, 8)]
    assert {(images.dtype, labels.dtype) for images, labels in batches} == {(torch.float32, torch.int64)}
    assert torch.cat([labels for _, labels in batches]).tolist() == list(range(10))
    assert (loader.num_images, loader.labels, len(loader)) == (10, tuple(range(10)), 3)


@given(
    st.integers(1, 40),
    st.integers(1, 20),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 3),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_all_processes_together_see_each_step_once(
    count: int, batch_size: int, world: int, parts: int, epoch: int, shuffle: bool
) -> None:
    assume(parts <= batch_size)
    loaders = []
    for rank in range(world):
        values = {
            "batch_size": batch_size,
            "shuffle": shuffle,
            "rank": rank,
            "world": world,
            "accumulation": parts,
        }
        try:
            loaders.append(_loader(count, **values))
        except DataError:
            assert shuffle and count // -(-count // batch_size) // parts < world
            return
    per_rank = [[labels.tolist() for _, labels in _epoch(loader, epoch)] for loader in loaders]
    # The label of an image is its index.
    steps = epoch_batches(count, batch_size, 0, epoch, shuffle)
    assert sorted(i for rank in per_rank for batch in rank for i in batch) == list(range(count))
    assert sorted(i for step in steps for i in step) == list(range(count))
    assert [len(loader) for loader in loaders] == [len(batches) for batches in per_rank]
    if shuffle:
        for number, step in enumerate(steps):
            shares = [rank[number * parts + part] for rank in per_rank for part in range(parts)]
            assert Counter(i for share in shares for i in share) == Counter(step)
            assert all(shares)
    else:
        assert all(
            sorted(seen) == seen for seen in ([i for batch in rank for i in batch] for rank in per_rank)
        )


def test_augmentation_is_the_same_with_workers_and_across_processes() -> None:
    settings: dict[str, Any] = {"augment": "randaugment", "shuffle": True, "seed": 3}
    alone, helped = _loader(**settings), _loader(workers=2, **settings)
    for epoch in (0, 1):
        for (a, b), (c, d) in zip(_epoch(alone, epoch), _epoch(helped, epoch), strict=True):
            assert torch.equal(a, c) and torch.equal(b, d)
    images = {int(y): x for xs, ys in _epoch(alone, 1) for x, y in zip(xs, ys, strict=True)}
    for rank in range(2):
        for xs, ys in _epoch(_loader(rank=rank, world=2, batch_size=8, **settings), 1):
            assert all(torch.equal(images[int(y)], x) for x, y in zip(xs, ys, strict=True))


def test_epochs_and_seeds_differ_and_repeat() -> None:
    loader = _loader(shuffle=True, augment="crop-flip")
    first, second = _epoch(loader, 0), _epoch(loader, 1)
    assert not torch.equal(first[0][0], second[0][0])
    assert torch.equal(_epoch(loader, 0)[0][0], first[0][0])
    assert not torch.equal(_epoch(_loader(shuffle=True, seed=1))[0][1], first[0][1])


def test_an_epoch_left_early_does_not_leak_into_the_next() -> None:
    loader = _loader(workers=2, shuffle=True)
    next(iter(loader))
    fresh = _epoch(_loader(shuffle=True), 1)
    found = _epoch(loader, 1)
    assert torch.cat([labels for _, labels in found]).equal(torch.cat([labels for _, labels in fresh]))


def test_first_images_are_of_all_classes_and_the_same_for_every_run_and_process() -> None:
    """Grey images sorted by class: 50 dark ones, 50 bright ones."""
    levels = [*range(50), *range(200, 250)]
    images = tuple(ImageInMemory(name=str(g), pixels=np.full((8, 8), g, dtype=np.uint8)) for g in levels)
    split = Split(images=images, labels=(0,) * 50 + (1,) * 50)
    first, *others = (
        make_loader(split, _PREP, batch_size=10, world=2, accumulation=parts, **values).first_images(16)
        for parts, values in (
            (1, {"rank": 0, "seed": 0, "shuffle": True}),
            (1, {"rank": 1, "seed": 5, "shuffle": True}),
            (2, {"rank": 1, "seed": 0, "shuffle": True}),
            (1, {"rank": 0, "seed": 0, "shuffle": False}),
        )
    )
    assert all(torch.equal(other, first) for other in others)
    assert first.shape[1:] == (3, 8, 8) and 8 <= len(first) <= 16
    bright = int((first.mean(dim=(1, 2, 3)) > 0.5).sum())
    assert 0 < bright < len(first)


def test_more_workers_than_cores_do_not_warn() -> None:
    assert len(_epoch(_loader(workers=64))) == 3


def test_training_refuses_batches_that_leave_a_process_without_an_image() -> None:
    with pytest.raises(DataError, match=r"smallest batch has 3 images, too few for 2 .* on 2 process"):
        _loader(shuffle=True, world=2, accumulation=2)
    assert len(_loader(count=1, world=2, rank=1)) == 0
    assert _epoch(_loader(count=1, world=2, rank=1)) == []


@pytest.mark.parametrize(
    "values",
    [{"accumulation": 10**30}, {"accumulation": 0}, {"world": 0}, {"world": 2, "rank": 2}, {"rank": -1}],
)
def test_shares_that_nothing_could_be_dealt_into_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"^{list(values)[-1]} is "):
        _loader(**values)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_breaks_during_training_is_named(tmp_path: Path, workers: int) -> None:
    images = [ImageFile(name=f"{i}.png", path=tmp_path / f"{i}.png") for i in range(4)]
    for image in images[:2]:
        Image.new("RGB", (8, 8)).save(image.path)
    split = Split(images=tuple(images), labels=(0, 1, 0, 1))
    problems: dict[str, str] = {}
    try:  # pytest.raises would keep the frames, and with them the workers, alive.
        list(make_loader(split, _PREP, batch_size=4, workers=workers))
    except UnreadableImages as error:
        problems = error.problems
    assert set(problems) == {"2.png", "3.png"}
