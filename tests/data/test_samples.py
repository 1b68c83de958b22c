"""A sample depends on (seed, epoch, index) only."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image

from e2vpt.data.images import ImageInMemory
from e2vpt.data.samples import TaskDataset
from e2vpt.data.task import Split
from e2vpt.errors import UnreadableImages

_SPLIT = Split(
    images=tuple(ImageInMemory(name=str(i), pixels=Image.new("RGB", (4, 4))) for i in range(4)),
    labels=(3, 1, 2, 0),
)


def _noise(image: Image.Image) -> torch.Tensor:
    return torch.tensor([random.random(), float(np.random.rand()), float(torch.rand(()))])


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
