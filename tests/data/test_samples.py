"""A sample depends on (seed, epoch, index) only."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from e2vpt.data.decoding.images import ImageInMemory
from e2vpt.data.preprocess import Preprocessing
from e2vpt.data.samples import TaskDataset
from e2vpt.data.task import Split
from e2vpt.data.transforms import Augment, TrainTransform, train_transform
from e2vpt.errors import UnreadableImages

_SPLIT = Split(
    images=tuple(ImageInMemory(name=str(i), pixels=Image.new("RGB", (4, 4))) for i in range(4)),
    labels=(3, 1, 2, 0),
)


def _draw(image: Any) -> torch.Tensor:
    return torch.tensor([random.random(), float(np.random.rand()), float(torch.rand(()))])


_noise = TrainTransform(None, _draw)


def test_noise_is_fixed_by_seed_epoch_and_index() -> None:
    samples = TaskDataset(_SPLIT, _noise, seed=1)
    first = samples[0, 2][0]
    torch.rand(3), random.random(), samples[0, 1]
    assert torch.equal(samples[0, 2][0], first)
    others = [samples[1, 2], samples[0, 3], TaskDataset(_SPLIT, _noise, seed=2)[0, 2]]
    for noise, _ in others:
        assert bool((noise != first).all())


def test_the_caller_s_random_state_is_left_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    assert TaskDataset(_SPLIT, _noise)[0, 0][1] == 3
    assert torch.equal(torch.rand(2), expected)


def test_a_broken_image_is_raised_alone_and_handed_on_in_company() -> None:
    split = Split(
        images=(*_SPLIT.images, ImageInMemory(name="bad", pixels=np.zeros(3))), labels=(0, 0, 0, 0, 1)
    )
    samples = TaskDataset(split, _noise)
    with pytest.raises(UnreadableImages, match="bad"):
        samples[0, 4]
    good, bad = samples.__getitems__([(0, 0), (0, 4)])
    assert isinstance(good, tuple) and isinstance(bad, UnreadableImages)
    assert len(samples) == 5


@pytest.mark.parametrize("augment", ["none", "flip", "shift", "crop", "crop-flip", "randaugment"])
def test_kept_images_change_nothing_but_how_often_they_are_decoded(
    augment: Augment, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 40, 50, 3), dtype=np.uint8)
    sizes = [(50, 40), (31, 64), (500, 12)]  # the last one too elongated to be kept where it is cut by chance
    images = tuple(
        ImageInMemory(name=str(i), pixels=Image.fromarray(p).resize(size))
        for i, (p, size) in enumerate(zip(pixels, sizes, strict=True))
    )
    opened: list[str] = []
    original = ImageInMemory.open

    def seen(image: ImageInMemory, as_stored: bool = False) -> Image.Image:
        opened.append(image.name)
        return original(image, as_stored)

    monkeypatch.setattr(ImageInMemory, "open", seen)
    prep = Preprocessing(image_size=(24, 24), mean=(0.5,) * 3, std=(0.5,) * 3)
    transform, split = train_transform(prep, augment), Split(images=images, labels=(0, 1, 2))
    keys = [(epoch, index) for epoch in range(3) for index in range(3)]
    kept, bare = TaskDataset(split, transform, keep_bytes=10**6), TaskDataset(split, transform)
    found = [kept[key][0] for key in keys]
    times = [opened.count(name) for name in "012"]
    assert all(torch.equal(image, bare[key][0]) for image, key in zip(found, keys, strict=True))
    never = augment in ("crop", "randaugment")
    assert times == [3 if never else 1] * 2 + [3 if never or augment in ("shift", "crop-flip") else 1]
