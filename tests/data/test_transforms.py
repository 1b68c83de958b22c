"""Images become normalised tensors; augmentation follows torch's random state."""

from __future__ import annotations

import dataclasses
import math
import pickle
import tracemalloc
from typing import Any

import numpy as np
import pytest
import timm.data
import torch
from PIL import Image

from e2vpt.data.preprocess import TENSORFLOW, Preprocessing
from e2vpt.data.transforms import Augment, SampledAsTensorFlow, eval_transform, train_transform

_PREP = Preprocessing(image_size=(24, 32), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop_pct=0.9)
_IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8))
_AUGMENTS: list[Augment] = ["none", "flip", "shift", "crop", "crop-flip", "randaugment"]


@pytest.mark.parametrize("augment", _AUGMENTS)
@pytest.mark.parametrize("size", [(50, 70), (8, 300), (1, 1)])
def test_shape_and_type(augment: Augment, size: tuple[int, int]) -> None:
    for interpolation in (*("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"), TENSORFLOW):
        mode = "squash" if interpolation == TENSORFLOW else "center"
        prep = dataclasses.replace(_PREP, interpolation=interpolation, crop_mode=mode, crop_pct=1.0)
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


_TENSORFLOW = Preprocessing(
    image_size=(24, 40),
    mean=(0.1, 0.2, 0.3),
    std=(0.5, 0.6, 0.7),
    interpolation="tensorflow-bilinear",
    crop_mode="squash",
)


def _between_pixel_centres(pixels: Any, height: int, width: int) -> Any:
    """Pixel by pixel and in double precision: pixel i covers i to i + 1, and has its value in the middle."""
    out = np.zeros((height, width, 3))
    for y in range(height):
        for x in range(width):
            v = (y + 0.5) * pixels.shape[0] / height - 0.5
            u = (x + 0.5) * pixels.shape[1] / width - 0.5
            for j in (math.floor(v), math.floor(v) + 1):
                for i in (math.floor(u), math.floor(u) + 1):
                    inside = min(max(j, 0), pixels.shape[0] - 1), min(max(i, 0), pixels.shape[1] - 1)
                    out[y, x] += (1 - abs(v - j)) * (1 - abs(u - i)) * pixels[inside].astype(np.float64)
    return out


@pytest.mark.parametrize(
    "size", [(333, 500), (1000, 1501), (24, 40), (9, 13), (1, 1), (1, 3000), (40, 24), (25, 41)]
)
def test_tensorflow_s_resizing_is_sampling_between_pixel_centres(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    found = eval_transform(_TENSORFLOW)(Image.fromarray(pixels))
    assert found.shape == (3, 24, 40) and found.dtype == torch.float32
    mean, std = (torch.tensor(values)[:, None, None] for values in (_TENSORFLOW.mean, _TENSORFLOW.std))
    levels = ((found * std + mean) * 255).permute(1, 2, 0).numpy()
    assert np.abs(levels - _between_pixel_centres(pixels, 24, 40)).max() <= 0.01


def test_values_that_tensorflow_gave() -> None:
    """The red of `tf.image.resize(pixels, (3, 4))`, by TensorFlow 2.21."""
    pixels = (np.arange(35 * 3, dtype=np.uint8).reshape(5, 7, 3) * 67).astype(np.uint8)
    red = [
        [85.7083, 106.7917, 85.2083, 159.6250],
        [233.3750, 137.1250, 40.8750, 200.6250],
        [189.0417, 103.4583, 81.8750, 156.2917],
    ]
    found = SampledAsTensorFlow((3, 4))(Image.fromarray(pixels)) * 255
    assert torch.allclose(found[0], torch.tensor(red), atol=0.001)


def test_pillow_smooths_and_tensorflow_does_not() -> None:
    """Of black and white lines Pillow makes grey; the middle of every third one is black or white."""
    lines = Image.fromarray(np.tile(np.array([0, 255], dtype=np.uint8)[:, None, None], (36, 40, 3)))
    pillows = dataclasses.replace(_TENSORFLOW, interpolation="bilinear")
    grey, sharp = (eval_transform(prep)(lines)[0].std() for prep in (pillows, _TENSORFLOW))
    assert grey < 0.3 and sharp > 0.9


def test_what_is_large_costs_no_floats_of_all_its_pixels() -> None:
    image = Image.new("RGB", (4000, 3000))
    sample = SampledAsTensorFlow((24, 40))
    tracemalloc.start()
    sample(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.2 * 4000 * 3000 * 3


def _theirs(prep: Preprocessing) -> Any:
    return timm.data.create_transform(
        (3, *prep.image_size),
        interpolation=prep.interpolation,
        crop_pct=prep.crop_pct,
        crop_mode=prep.crop_mode,
        mean=prep.mean,
        std=prep.std,
    )


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("target", [(24, 24), (24, 32), (48, 16)])
@pytest.mark.parametrize("interpolation", ["nearest", "bicubic", "lanczos"])
def test_elongated_images_keep_their_pixels(
    crop_mode: str, target: tuple[int, int], interpolation: str
) -> None:
    prep = Preprocessing(
        image_size=target,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        crop_pct=0.9,
        crop_mode=crop_mode,
        interpolation=interpolation,
    )
    for width, height in ((70, 50), (90, 30), (30, 90), (41, 41), (60, 13)):
        image = _IMAGE.resize((width, height))
        assert torch.equal(eval_transform(prep)(image), _theirs(prep)(image)), "ordinary ones exactly"
    for width, height in ((1000, 7), (7, 1001), (3, 160), (900, 30), (30, 901)):
        if crop_mode == "border" and min(width, height) < 30:
            continue  # timm's own would have no pixel in height.
        image = _IMAGE.resize((width, height))
        levels = (eval_transform(prep)(image) - _theirs(prep)(image)).abs() * 127.5
        allowed = 2.01 if crop_mode == "center" else 12
        # A neighbouring pixel may be the nearest, where two are as near.
        assert levels.quantile(0.9 if interpolation == "nearest" else 1) <= allowed, (width, height)


@pytest.mark.parametrize("augment", _AUGMENTS)
@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
def test_an_elongated_image_is_never_resized_whole(
    augment: Augment, crop_mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    resize = Image.Image.resize

    def seen(image: Image.Image, size: tuple[int, int], *rest: Any, **more: Any) -> Image.Image:
        made.append(size[0] * size[1])
        return resize(image, size, *rest, **more)

    monkeypatch.setattr(Image.Image, "resize", seen)
    prep = Preprocessing(image_size=(24, 24), mean=(0.5,) * 3, std=(0.5,) * 3, crop_mode=crop_mode)
    for size in ((1, 200_000), (200_000, 1), (3, 5000)):
        assert train_transform(prep, augment)(Image.new("RGB", size)).shape == (3, 24, 24)
    assert max(made) < 10_000


def test_every_part_of_an_elongated_image_is_drawn() -> None:
    ramp = Image.fromarray(np.tile(np.linspace(0, 255, 4000, dtype=np.uint8)[:, None, None], (1, 10, 3)))
    transform = train_transform(_PREP, "crop-flip")
    means = torch.tensor([float(transform(ramp).mean()) for _ in range(60)])
    assert means.min() < -0.7 and means.max() > 0.7


@pytest.mark.parametrize("augment", _AUGMENTS)
def test_random_state_decides(augment: Augment) -> None:
    transform = pickle.loads(pickle.dumps(train_transform(_PREP, augment)))
    drawn = []
    for seed in (0, 0, 1, 2, 3):
        torch.manual_seed(seed)
        drawn.append(transform(_IMAGE))
    assert torch.equal(drawn[0], drawn[1])
    assert any(not torch.equal(drawn[0], other) for other in drawn) == (augment != "none")


@pytest.mark.parametrize("augment", _AUGMENTS)
def test_only_what_flips_changes_sides(augment: Augment) -> None:
    left = Image.new("RGB", (70, 50), "white")
    left.paste("black", (35, 0, 70, 50))
    transform = train_transform(_PREP, augment)
    torch.manual_seed(0)
    ends = [image[:, :, [0, -1]].mean(dim=(0, 1)) for image in (transform(left) for _ in range(40))]
    whiter_at_left = [bool(first > last) for first, last in ends if first != last]
    assert set(whiter_at_left) == {True} | ({False} if augment.endswith(("flip", "randaugment")) else set())


@pytest.mark.parametrize("augment", ["shift", "crop-flip"])
def test_shifting_cuts_an_eighth_off(augment: Augment) -> None:
    """Of a ramp from -1 to 1 seven eighths are left, at one end, at the other, or in between."""
    prep = dataclasses.replace(_PREP, image_size=(28, 28))
    ramp = Image.fromarray(np.tile(np.linspace(0, 255, 280, dtype=np.uint8)[:, None], (280, 1, 3)))
    transform = train_transform(prep, augment)
    for _ in range(10):
        image = transform(ramp)
        assert float(image.max() - image.min()) == pytest.approx(2 * 27 / 32, abs=0.05)


def test_a_crop_keeps_most_of_the_area() -> None:
    for augment, least in (("crop", 0.6), ("randaugment", 0.5)):
        finish: Any = train_transform(_PREP, augment).finish  # type: ignore[arg-type]
        assert finish.transforms[0].scale == (least, 1.0)
