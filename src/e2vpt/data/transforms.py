"""From an RGB image to a normalised tensor, for evaluation and, augmented, for training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from PIL import Image
from timm.data.transforms_factory import create_transform
from torch import Tensor
from torchvision import transforms

from e2vpt.data.preprocess import Preprocessing

Transform = Callable[[Image.Image], Tensor]
Augment = Literal["none", "crop", "crop-flip", "randaugment"]


def eval_transform(prep: Preprocessing) -> Transform:
    """RGB image to normalised float32 tensor [3, H, W]; the same image always gives the same tensor."""
    made: Transform = create_transform(
        input_size=(3, *prep.image_size),
        is_training=False,
        interpolation=prep.interpolation,
        mean=prep.mean,
        std=prep.std,
        crop_pct=prep.crop_pct,
        crop_mode=prep.crop_mode,
    )
    return made


def train_transform(prep: Preprocessing, augment: Augment) -> Transform:
    """RGB image to normalised float32 tensor [3, H, W], augmented with torch's global random state.

    "none" is `eval_transform` (VTAB); "crop" takes 60 to 100 % of the area and never flips, for signs and
    writing, where left and right differ; "crop-flip" resizes the short side to 8/7 of the size, crops at
    random and flips (FGVC: 256 to 224); "randaugment" crops 50 to 100 % of the area, flips and applies
    RandAugment.
    """
    if augment == "none":
        return eval_transform(prep)
    mode = transforms.InterpolationMode(prep.interpolation)
    steps: list[Any]
    if augment == "crop":
        steps = [transforms.RandomResizedCrop(prep.image_size, scale=(0.6, 1.0), interpolation=mode)]
    elif augment == "crop-flip":
        short_side = round(max(prep.image_size) / 0.875)
        steps = [transforms.Resize(short_side, mode), transforms.RandomCrop(prep.image_size)]
        steps += [transforms.RandomHorizontalFlip()]
    else:
        steps = [transforms.RandomResizedCrop(prep.image_size, scale=(0.5, 1.0), interpolation=mode)]
        steps += [transforms.RandomHorizontalFlip(), transforms.RandAugment()]
    made: Transform = transforms.Compose(
        [*steps, transforms.ToTensor(), transforms.Normalize(prep.mean, prep.std)]
    )
    return made
