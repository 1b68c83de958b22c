"""Every setting, as frozen keyword-only dataclasses that check themselves when made.

The command line is generated from these fields: a field's name is its flag, its `help` the flag's text.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from e2vpt.errors import ConfigError
from e2vpt.segments import Layout

Depth = Literal["deep", "shallow"]
VisualInit = Literal["uniform", "normal", "zeros", "patch"]
KeyValueInit = Literal["kaiming", "normal", "zeros", "patch"]
Counts = int | tuple[int, ...]
Numbers = tuple[float, ...]
_HUGE = 1e300  # Whole numbers beyond floats would overflow in comparisons with infinity.
Config = Union["PromptConfig", "DataConfig", "TrainConfig", "PruneConfig", "SearchConfig"]
C = TypeVar("C", bound=Config)


def _option(default: Any, text: str) -> Any:
    """A dataclass field whose help text the command line shows."""
    return field(default=default, metadata={"help": text})


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _check_choices(config: Any) -> None:
    """Hold every Literal field of a dataclass to its choices, and every bool field to the two it has."""
    for name, hint in get_type_hints(type(config)).items():
        if hint is bool:
            value = getattr(config, name)
            _require(isinstance(value, bool), f"{name} is {value!r}; expected True or False.")
        if get_origin(hint) is Literal:
            value = getattr(config, name)
            _require(
                value in get_args(hint), f"{name} is {value!r}; expected one of {', '.join(get_args(hint))}."
            )


def _check_count(name: str, value: Any, minimum: int) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    _require(
        whole and value >= minimum, f"{name} is {value!r}; expected a whole number of at least {minimum}."
    )


def _check_number(name: str, value: float, low: float, high: float) -> None:
    """A finite number in [low, high)."""
    finite = isinstance(value, (int, float)) and abs(value) < _HUGE
    _require(finite and low <= value < high, f"{name} is {value!r}; expected a number in [{low}, {high}).")


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptConfig:
    """The mixed prompts of one task (paper, section 3).

    `num_visual` and `num_kv` are one count for every block, or one per block in forward order. With depth
    "shallow" only the first block has prompts of that kind.
    """

    num_visual: Counts = _option(10, "Visual prompts per block (0 for none).")
    num_kv: Counts = _option(5, "Key-value prompts per block and head (0 for none).")
    share_kv: bool = _option(True, "One tensor serves as both key and value prompts.")
    visual_depth: Depth = _option(
        "deep", "Visual prompts in every block, or in the first only, travelling on."
    )
    kv_depth: Depth = _option("deep", "Key-value prompts in every block, or in the first only.")
    init: VisualInit = _option(
        "uniform", "Initial visual prompts; `patch` takes patch tokens of training images."
    )
    kv_init: KeyValueInit = _option(
        "kaiming", "Initial key-value prompts; `patch` takes projected patch tokens."
    )
    dropout: float = _option(0.0, "Dropout of visual prompts, drawn for every image, while training.")
    pool_prompts: bool = _option(
        False, "Swin: average the last block's prompt rows into the feature (official code)."
    )

    def __post_init__(self) -> None:
        _check_choices(self)
        for name in ("num_visual", "num_kv"):
            value = getattr(self, name)
            for count in as_tuple(value):
                _check_count(name, count, 0)
            _require(value != (), f"{name} is empty; give one count, or one per block.")
        _check_number("dropout", self.dropout, 0.0, 1.0)

    def visual_counts(self, num_blocks: int) -> tuple[int, ...]:
        """Visual prompts of each of `num_blocks` blocks."""
        return _per_block("num_visual", self.num_visual, self.visual_depth, num_blocks)

    def kv_counts(self, num_blocks: int) -> tuple[int, ...]:
        """Key-value prompts of each of `num_blocks` blocks."""
        return _per_block("num_kv", self.num_kv, self.kv_depth, num_blocks)


def _per_block(name: str, value: Counts, depth: Depth, num_blocks: int) -> tuple[int, ...]:
    counts = value if isinstance(value, tuple) else (value,) * num_blocks
    _require(
        len(counts) == num_blocks, f"{name} has {len(counts)} counts; the backbone has {num_blocks} blocks."
    )
    return counts if depth == "deep" else counts[:1] + (0,) * (num_blocks - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """How images become batches: size, preprocessing, augmentation, splits."""

    image_size: int | None = _option(None, "Side in pixels; the backbone's own size when not given.")
    preprocess: Literal["backbone", "imagenet"] = _option(
        "backbone",
        "Mean, standard deviation and crop of the checkpoint, or ImageNet's as in the official code.",
    )
    augment: Literal["none", "crop", "crop-flip", "randaugment"] = _option(
        "none", "Training augmentation: none (VTAB), crop (signs, writing), crop-flip (FGVC), randaugment."
    )
    train_on: Literal["train", "train+val"] = _option(
        "train", "train+val is for the last training, once settings are chosen (VTAB); keeps the last epoch."
    )
    val_fraction: float = _option(0.1, "Share split off for validation where the data has no val split.")
    test_fraction: float = _option(0.2, "Share split off for test where the data has no splits at all.")
    split_seed: int = _option(0, "Seed of those splits.")
    workers: int = _option(0, "Processes that load images beside the training process.")

    def __post_init__(self) -> None:
        _check_choices(self)
        if self.image_size is not None:
            _check_count("image_size", self.image_size, 8)
        _check_number("val_fraction", self.val_fraction, 0.0, 1.0)
        _check_number("test_fraction", self.test_fraction, 0.0, 1.0)
        total = self.val_fraction + self.test_fraction
        _require(total < 1, f"val_fraction + test_fraction is {total}; nothing would be left to train on.")
        _check_count("split_seed", self.split_seed, 0)
        _check_count("workers", self.workers, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training: optimizer, schedule, precision, stopping."""

    epochs: int = _option(100, "Passes over the training images.")
    batch_size: int = _option(
        64, "Images per optimizer step, over all processes and accumulation steps together."
    )
    lr: float = _option(5e-3, "Peak learning rate.")
    optimizer: Literal["adamw", "sgd"] = _option("adamw", "AdamW, or SGD with momentum as in the paper.")
    weight_decay: float = _option(1e-4, "Weight decay.")
    momentum: float = _option(0.9, "Momentum of SGD.")
    warmup: float = _option(0.1, "Share of all steps during which the learning rate rises to its peak.")
    precision: Literal["fp32", "bf16", "fp16"] = _option(
        "fp32", "Arithmetic of the forward pass; fp16 needs a GPU."
    )
    accumulation: int = _option(1, "Parts a batch is computed in, to save memory; the result is the same.")
    grad_checkpointing: bool = _option(False, "Recompute blocks in the backward pass, to save memory.")
    class_weights: Literal["none", "balanced"] = _option("none", "Weigh classes by inverse frequency.")
    label_smoothing: float = _option(0.0, "Label smoothing.")
    patience: int = _option(0, "Stop after this many epochs without a better validation accuracy (0: never).")
    seed: int = _option(0, "Seed of prompts, head, order and augmentation.")

    def __post_init__(self) -> None:
        _check_choices(self)
        for name in ("epochs", "batch_size", "accumulation"):
            _check_count(name, getattr(self, name), 1)
        for name in ("patience", "seed"):
            _check_count(name, getattr(self, name), 0)
        _check_number("lr", self.lr, 0.0, math.inf)
        _check_number("weight_decay", self.weight_decay, 0.0, math.inf)
        for name in ("momentum", "warmup", "label_smoothing"):
            _check_number(name, getattr(self, name), 0.0, 1.0)
        _require(
            self.accumulation <= self.batch_size,
            f"accumulation is {self.accumulation}, more parts than the {self.batch_size} images of a batch.",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PruneConfig:
    """Which visual prompts are removed after the first training, and what follows (paper, section 3.3).

    `keep` is the share of the visual prompt elements to keep; the ways to split it between tokens and
    segments are compared. `keep_tokens` and `keep_segments` name the shares to compare instead, all pairs.
    """

    keep: float = _option(0.5, "Share of the visual prompt elements to keep.")
    keep_tokens: Numbers = _option((), "Shares of tokens to try instead of --keep, as in 0.9,0.5.")
    keep_segments: Numbers = _option((), "Shares of segments to try, with each of --keep-tokens.")
    keep_kv: float = _option(1.0, "Share of the key-value prompts to keep.")
    num_segments: int = _option(16, "Segments of a token's channels.")
    layout: Layout = _option("strided", "Which channels a segment has: c mod R, or a run of neighbours.")
    masks: Literal["shared", "per-block"] = _option(
        "per-block", "One mask for all blocks (official code), or blocks that keep different numbers."
    )
    signed_scores: bool = _option(False, "Scores without absolute value (official code).")
    rewind: Literal["initial", "fresh", "none"] = _option(
        "initial", "Where the survivors start again: their initial values, new ones, or where they are."
    )
    rewind_head: bool = _option(False, "Rewind the head too; otherwise it goes on from where it is.")
    finalists: int = _option(1, "Prunings that are trained again; the best on validation is kept.")
    tolerance: float = _option(
        0.01, "Validation accuracy that may be given up against the unpruned prompts for a smaller adapter."
    )

    def __post_init__(self) -> None:
        _check_choices(self)
        for name in ("keep", "keep_kv", "tolerance"):
            _check_share(name, getattr(self, name))
        for name in ("keep_tokens", "keep_segments"):
            shares = getattr(self, name)
            _require(isinstance(shares, tuple), f"{name} is {shares!r}; expected a tuple of shares.")
            for share in shares:
                _check_share(name, share)
        for name in ("num_segments", "finalists"):
            _check_count(name, getattr(self, name), 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchConfig:
    """The space that a search goes through, and how far."""

    trials: int = _option(20, "Trials: each a training, and a second one where fewer prompts are kept.")
    lr_range: Numbers = _option((1e-3, 2e-2), "Lowest and highest learning rate, searched by magnitude.")
    weight_decay_range: Numbers = _option((1e-5, 1e-1), "Lowest and highest weight decay, likewise.")
    visual_choices: Counts = _option((1, 5, 10, 20), "Numbers of visual prompts to try.")
    kv_choices: Counts = _option((1, 5, 10), "Numbers of key-value prompts to try.")
    inits: Literal["uniform", "patch", "both"] = _option("both", "Initial visual prompts to try.")
    keep_choices: Numbers = _option((1.0, 0.7, 0.5, 0.3), "Shares of visual prompt elements to try to keep.")
    stop_early: bool = _option(True, "Stop trials that are worse than the median of the others so far.")
    search_seed: int = _option(0, "Seed of what is tried.")

    def __post_init__(self) -> None:
        _check_choices(self)
        _check_count("trials", self.trials, 1)
        _check_count("search_seed", self.search_seed, 0)
        for name in ("lr_range", "weight_decay_range"):
            pair = getattr(self, name)
            fits = isinstance(pair, tuple) and len(pair) == 2 and 0 < pair[0] <= pair[1] < _HUGE
            _require(fits, f"{name} is {pair!r}; expected two positive numbers, the smaller first.")
        for name in ("visual_choices", "kv_choices"):
            for count in as_tuple(getattr(self, name)):
                _check_count(name, count, 0)
        _require(bool(self.keep_choices), "keep_choices is empty; expected at least one share.")
        for share in self.keep_choices:
            _check_share("keep_choices", share)


def as_tuple(counts: Counts) -> tuple[int, ...]:
    """One count or several, as several."""
    return counts if isinstance(counts, tuple) else (counts,)


def _check_share(name: str, value: Any) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    _require(number and 0 <= value <= 1, f"{name} is {value!r}; expected a share from 0 to 1.")


def to_dict(config: Config) -> dict[str, Any]:
    """A config as plain JSON values (tuples become lists)."""
    values = dataclasses.asdict(config)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def from_dict(cls: type[C], values: Mapping[str, Any]) -> C:
    """A config from plain JSON values.

    Raises:
        ConfigError: an unknown field, a missing or wrong type, or a value out of range.
    """
    known = {f.name for f in dataclasses.fields(cls)}
    unknown = sorted(set(values) - known)
    _require(
        not unknown,
        f"{cls.__name__} has no field {', '.join(map(repr, unknown))}; it has {', '.join(sorted(known))}.",
    )
    made: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    _check_types(cls, made)
    return cls(**made)


def _check_types(cls: type[Any], values: Mapping[str, Any]) -> None:
    """Hold JSON values to the plain types of the fields; the class itself checks choices and ranges."""
    for f in dataclasses.fields(cls):
        if f.name in values and isinstance(f.default, (bool, float, str)):
            value = values[f.name]
            expected: tuple[type, ...] = (float, int) if isinstance(f.default, float) else (type(f.default),)
            fits = isinstance(value, expected) and (isinstance(value, bool) == isinstance(f.default, bool))
            _require(fits, f"{cls.__name__}.{f.name} is {value!r}; expected {expected[0].__name__}.")
