"""How images become batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from e2vpt.config.fields import check_choices, check_count, check_number, option, require

WhichSplit = Literal["train", "val", "test", "all"]
"""Labelled images that are asked for."""
TrainOn = Literal["train", "train+val"]
"""Images of a training; of training images alone, the best epoch on validation images is kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """How images become batches: size, preprocessing, augmentation, splits."""

    image_size: int | None = option(None, "Input size in pixels. Default: the backbone's.")
    preprocess: Literal["backbone", "imagenet", "imagenet-crop"] = option(
        "backbone",
        "Normalisation, crop and resizing. backbone: the checkpoint's. Others: ImageNet's normalisation, and "
        "the whole image resized by TensorFlow (imagenet; the official code for VTAB-1k), or the centre of "
        "an image resized to 8/7 of the size (imagenet-crop; the official code for FGVC).",
    )
    augment: Literal["auto", "none", "flip", "shift", "crop", "crop-flip", "randaugment"] = option(
        "none",
        "Augmentation of training images. crop-flip suits most photographs, shift what must not be mirrored. "
        "auto: decided halfway through training, by accuracy on mirrored and shifted validation images.",
    )
    train_on: TrainOn = option(
        "train", "train+val: use the validation images for training too, and keep the last epoch."
    )
    val_fraction: float = option(
        0.1, "Share of the images to hold out for validation, if the data has no val split."
    )
    test_fraction: float = option(
        0.2, "Share of the images to hold out for testing, if the data has no splits."
    )
    split_seed: int = option(0, "Random seed of these splits.")
    skip_unreadable: bool = option(False, "Leave out images that do not decode, and list them.")
    workers: int = option(0, "Number of extra processes that load images.")

    @property
    def augment_at_first(self) -> Literal["none", "flip", "shift", "crop", "crop-flip", "randaugment"]:
        """What a training begins with: none, where `auto` has not been answered yet."""
        return "none" if self.augment == "auto" else self.augment

    def __post_init__(self) -> None:
        check_choices(self)
        if self.image_size is not None:
            check_count("image_size", self.image_size, 8)
        check_number("val_fraction", self.val_fraction, 0.0, 1.0)
        check_number("test_fraction", self.test_fraction, 0.0, 1.0)
        total = self.val_fraction + self.test_fraction
        require(total < 1, f"val_fraction + test_fraction is {total}; nothing would be left to train on.")
        check_count("split_seed", self.split_seed, 0)
        check_count("workers", self.workers, 0)
