"""How images become batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from e2vpt.config.fields import check_choices, check_count, check_number, option, require


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """How images become batches: size, preprocessing, augmentation, splits."""

    image_size: int | None = option(None, "Side in pixels; the backbone's own size when not given.")
    preprocess: Literal["backbone", "imagenet"] = option(
        "backbone",
        "Mean, standard deviation and crop of the checkpoint, or ImageNet's as in the official code.",
    )
    augment: Literal["none", "crop", "crop-flip", "randaugment"] = option(
        "none", "Training augmentation: none (VTAB), crop (signs, writing), crop-flip (FGVC), randaugment."
    )
    train_on: Literal["train", "train+val"] = option(
        "train", "train+val is for the last training, once settings are chosen (VTAB); keeps the last epoch."
    )
    val_fraction: float = option(0.1, "Share split off for validation where the data has no val split.")
    test_fraction: float = option(0.2, "Share split off for test where the data has no splits at all.")
    split_seed: int = option(0, "Seed of those splits.")
    workers: int = option(0, "Processes that load images beside the training process.")

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
