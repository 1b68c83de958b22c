"""One training: optimizer, schedule, precision, stopping."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from e2vpt.config.fields import check_choices, check_count, check_number, option, require


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training: optimizer, schedule, precision, stopping."""

    epochs: int = option(100, "Passes over the training images.")
    batch_size: int = option(
        64, "Images per optimizer step, over all processes and accumulation steps together."
    )
    lr: float | None = option(None, "Peak learning rate. Default: the method's own.")
    head_lr_scale: float = option(1.0, "Learning rate of the head, as a multiple of that of the rest.")
    optimizer: Literal["adamw", "sgd"] = option("adamw", "AdamW, or SGD with momentum as in the paper.")
    weight_decay: float = option(1e-4, "Weight decay.")
    momentum: float = option(0.9, "Momentum of SGD.")
    warmup: float = option(0.1, "Share of the steps in which the learning rate rises to its peak.")
    precision: Literal["fp32", "bf16", "fp16"] = option(
        "fp32", "Precision of the forward and backward pass. fp16 needs a GPU."
    )
    accumulation: int = option(1, "Compute each batch in this many parts to save memory. Same result.")
    grad_checkpointing: bool = option(False, "Recompute blocks in the backward pass to save memory.")
    class_weights: Literal["none", "balanced"] = option(
        "none", "Weight classes in the loss by inverse frequency."
    )
    label_smoothing: float = option(0.1, "Label smoothing.")
    drop_path: float = option(
        0.0,
        "Skip blocks for an image by chance while training, with a probability that rises to this in the "
        "last block (0: as the backbone was created).",
    )
    mixup: float = option(
        0.0, "Blend each training image with another, by a share from Beta(x, x), such as 0.2 (0: never)."
    )
    average: float = option(
        0.0,
        "Validate and keep weights averaged over the steps, exponentially with this decay, such as 0.99 "
        "(0: the last ones).",
    )
    patience: int = option(0, "Stop after this many epochs without improvement on validation (0: never).")
    seed: int = option(0, "Random seed of initial values, order and augmentation.")

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("epochs", "batch_size", "accumulation"):
            check_count(name, getattr(self, name), 1)
        for name in ("patience", "seed"):
            check_count(name, getattr(self, name), 0)
        if self.lr is not None:
            check_number("lr", self.lr, 0.0, math.inf)
        for name in ("weight_decay", "mixup", "head_lr_scale"):
            check_number(name, getattr(self, name), 0.0, math.inf)
        for name in ("momentum", "warmup", "label_smoothing", "average", "drop_path"):
            check_number(name, getattr(self, name), 0.0, 1.0)
        require(
            self.accumulation <= self.batch_size,
            f"accumulation is {self.accumulation}, more parts than the {self.batch_size} images of a batch.",
        )

    @property
    def peak_lr(self) -> float:
        """The learning rate, where no method has been asked for its own: safe for prompts from chance."""
        return 5e-3 if self.lr is None else self.lr
