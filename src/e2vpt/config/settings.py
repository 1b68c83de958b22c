"""What a run is made of: prompts, images, training.

The command line is generated from these fields: a field's name is its flag, its `help` the flag's text.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from e2vpt.config.fields import Counts, as_tuple, check_choices, check_count, check_number, option, require

Depth = Literal["deep", "shallow"]
VisualInit = Literal["uniform", "normal", "zeros", "patch"]
KeyValueInit = Literal["kaiming", "normal", "zeros", "patch"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptConfig:
    """The mixed prompts of one task (paper, section 3).

    `num_visual` and `num_kv` are one count for every block, or one per block in forward order. With depth
    "shallow" only the first block has prompts of that kind.
    """

    num_visual: Counts = option(10, "Visual prompts per block (0 for none).")
    num_kv: Counts = option(5, "Key-value prompts per block and head (0 for none).")
    share_kv: bool = option(True, "One tensor serves as both key and value prompts.")
    visual_depth: Depth = option(
        "deep", "Visual prompts in every block, or in the first only, travelling on."
    )
    kv_depth: Depth = option("deep", "Key-value prompts in every block, or in the first only.")
    init: VisualInit = option(
        "patch", "Initial visual prompts; `patch` takes patch tokens of training images, all at one size."
    )
    kv_init: KeyValueInit = option(
        "patch", "Initial key-value prompts; `patch` takes projected patch tokens of training images."
    )
    first_block: int = option(
        0, "First block with prompts (deep only); what comes before it is computed once for each image (ViT)."
    )
    dropout: float = option(0.0, "Dropout of visual prompts, drawn for every image, while training.")
    pool_prompts: bool = option(
        False, "Swin: average the last block's prompt rows into the feature (official code)."
    )

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("num_visual", "num_kv"):
            value = getattr(self, name)
            for count in as_tuple(value):
                check_count(name, count, 0)
            require(value != (), f"{name} is empty; give one count, or one per block.")
        check_number("dropout", self.dropout, 0.0, 1.0)
        check_count("first_block", self.first_block, 0)
        require(
            self.first_block == 0 or (self.visual_depth, self.kv_depth) == ("deep", "deep"),
            "first_block is for deep prompts; shallow ones are in the first block.",
        )

    def visual_counts(self, num_blocks: int) -> tuple[int, ...]:
        """Visual prompts of each of `num_blocks` blocks."""
        return self._per_block("num_visual", self.num_visual, self.visual_depth, num_blocks)

    def kv_counts(self, num_blocks: int) -> tuple[int, ...]:
        """Key-value prompts of each of `num_blocks` blocks."""
        return self._per_block("num_kv", self.num_kv, self.kv_depth, num_blocks)

    def _per_block(self, name: str, value: Counts, depth: Depth, num_blocks: int) -> tuple[int, ...]:
        counts = value if isinstance(value, tuple) else (value,) * num_blocks
        require(
            len(counts) == num_blocks,
            f"{name} has {len(counts)} counts; the backbone has {num_blocks} blocks.",
        )
        require(
            self.first_block < num_blocks,
            f"first_block is {self.first_block}; the backbone has blocks 0 to {num_blocks - 1}.",
        )
        if depth == "shallow":
            return counts[:1] + (0,) * (num_blocks - 1)
        return (0,) * self.first_block + counts[self.first_block :]


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodConfig:
    """What other methods than prompts are made of, and what is tuned beside a method's own."""

    beside: Literal["auto", "none", "bias", "norm"] = option(
        "auto",
        "Tune every bias, or every LayerNorm, of the backbone beside what the method tunes; `auto` is biases "
        "for e2vpt with prompts from the first block on, and nothing for all others.",
    )
    partial_blocks: int = option(1, "Method partial: the last blocks, which are tuned.")
    mlp_layers: int = option(3, "Method mlp: layers of the head.")
    adapter_width: int = option(24, "Method adapter: channels of its bottleneck.")
    adapter_places: Literal["pfeiffer", "houlsby"] = option(
        "pfeiffer", "Method adapter: behind the MLP, or behind attention and MLP."
    )
    lora_rank: int = option(8, "Methods lora, dora, loha, lokr: rank of the update of qkv.")
    lora_alpha: int = option(8, "Methods lora, dora, loha, lokr: the update is multiplied by alpha / rank.")

    def __post_init__(self) -> None:
        check_choices(self)
        # Bounds: an adapter file from a stranger says these numbers, and memory follows them.
        limits = {"partial_blocks": 1000, "mlp_layers": 8, "adapter_width": 1024, "lora_rank": 256}
        for name, most in (limits | {"lora_alpha": 10**6}).items():
            value = getattr(self, name)
            check_count(name, value, 1)
            require(value <= most, f"{name} is {value}; the most is {most}.")


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


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training: optimizer, schedule, precision, stopping."""

    epochs: int = option(100, "Passes over the training images.")
    batch_size: int = option(
        64, "Images per optimizer step, over all processes and accumulation steps together."
    )
    lr: float | None = option(None, "Peak learning rate; the method's own when not given.")
    optimizer: Literal["adamw", "sgd"] = option("adamw", "AdamW, or SGD with momentum as in the paper.")
    weight_decay: float = option(1e-4, "Weight decay.")
    momentum: float = option(0.9, "Momentum of SGD.")
    warmup: float = option(0.1, "Share of all steps during which the learning rate rises to its peak.")
    precision: Literal["fp32", "bf16", "fp16"] = option(
        "fp32", "Arithmetic of the forward pass; fp16 needs a GPU."
    )
    accumulation: int = option(1, "Parts a batch is computed in, to save memory; the result is the same.")
    grad_checkpointing: bool = option(False, "Recompute blocks in the backward pass, to save memory.")
    class_weights: Literal["none", "balanced"] = option("none", "Weigh classes by inverse frequency.")
    label_smoothing: float = option(0.1, "Label smoothing.")
    patience: int = option(0, "Stop after this many epochs without a better validation accuracy (0: never).")
    seed: int = option(0, "Seed of prompts, head, order and augmentation.")

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("epochs", "batch_size", "accumulation"):
            check_count(name, getattr(self, name), 1)
        for name in ("patience", "seed"):
            check_count(name, getattr(self, name), 0)
        if self.lr is not None:
            check_number("lr", self.lr, 0.0, math.inf)
        check_number("weight_decay", self.weight_decay, 0.0, math.inf)
        for name in ("momentum", "warmup", "label_smoothing"):
            check_number(name, getattr(self, name), 0.0, 1.0)
        require(
            self.accumulation <= self.batch_size,
            f"accumulation is {self.accumulation}, more parts than the {self.batch_size} images of a batch.",
        )

    @property
    def peak_lr(self) -> float:
        """The learning rate, where no method has been asked for its own: safe for prompts from chance."""
        return 5e-3 if self.lr is None else self.lr
