"""Images become normalised tensors; augmentation follows torch's random state."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import timm.data
import torch
from PIL import Image

from e2vpt.data.preprocess import Preprocessing
from e2vpt.data.transforms import Augment, eval_transform, train_transform

_PREP = Preprocessing(image_size=(24, 32), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop_pct=0.9)
_IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8))
_AUGMENTS: list[Augment] = ["none", "crop", "crop-flip", "randaugment"]


@pytest.mark.parametrize("augment", _AUGMENTS)
@pytest.mark.parametrize("size", [(50, 70), (8, 300), (1, 1)])
def test_shape_and_type(augment: Augment, size: tuple[int, int]) -> None:
    for interpolation in ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"):
        prep = Preprocessing(image_size=(24, 32), mean=_PREP.mean, std=_PREP.std, interpolation=interpolation)
        image = train_transform(prep, augment)(_IMAGE.resize(size))
        assert image.shape == (3, 24, 32) and image.dtype == torch.float32
        assert bool((image.abs() <= 1 + 1e-6).all())


def test_evaluation_is_timm_s_own() -> None:
    config = {"input_size": (3, 24, 24), "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)}
    prep = Preprocessing(image_size=(24, 24), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), crop_pct=0.875)
    theirs = timm.data.create_transform(**config, interpolation="bicubic", crop_pct=0.875)
    assert torch.equal(eval_transform(prep)(_IMAGE), theirs(_IMAGE))


def test_squash_is_one_resize_and_a_normalisation() -> None:
    prep = Preprocessing(
        image_size=(24, 32),
        mean=(0.1, 0.2, 0.3),
        std=(0.5, 0.6, 0.7),
        interpolation="bilinear",
        crop_mode="squash",
    )
    pixels = np.asarray(_IMAGE.resize((32, 24), Image.Resampling.BILINEAR), dtype=np.float32) / 255
    expected = (pixels - np.array(prep.mean)) / np.array(prep.std)
    assert np.allclose(eval_transform(prep)(_IMAGE).permute(1, 2, 0).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("augment", _AUGMENTS)
def test_random_state_decides(augment: Augment) -> None:
    transform = pickle.loads(pickle.dumps(train_transform(_PREP, augment)))
    drawn = []
    for seed in (0, 0, 1, 2, 3):
        torch.manual_seed(seed)
        drawn.append(transform(_IMAGE))
    assert torch.equal(drawn[0], drawn[1])
    assert any(not torch.equal(drawn[0], other) for other in drawn) == (augment != "none")
