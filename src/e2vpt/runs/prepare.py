"""What every training of a run shares: its model at initial values, its batches."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from e2vpt.backbones.load import load_backbone
from e2vpt.data import Preprocessing, Split, Task, make_loader, preprocessing_for
from e2vpt.data.loaders import Loader
from e2vpt.methods.adapt import adapt, adapted_as, original_fingerprint
from e2vpt.prompting.initial import init_from_images
from e2vpt.prompting.parts import find_prompts
from e2vpt.runs.folders.run_config import RunConfig
from e2vpt.training.epochs import AUTOCAST
from e2vpt.training.prefix import num_prefix_bytes, with_prefix
from e2vpt.training.processes import open_processes, process_rank

_INIT_IMAGES = 64
_KEEP_BYTES = 2**30
"""Preprocessed images kept in memory, for each split: 1,700 of 224 px."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """What every training of a run shares.

    Attributes:
        task, config: as the run was asked for.
        model: the prompted backbone, at its initial values.
        preprocessing: how images become its input.
        train, val: this process's batches; `val` is None where there are no validation images.
        fingerprint: of the backbone's weights, as it is slow to compute.
    """

    task: Task
    config: RunConfig
    model: nn.Module
    preprocessing: Preprocessing
    train: Loader
    val: Loader | None
    fingerprint: str


def prepare(task: Task, config: RunConfig, like: Prepared | None = None) -> Prepared:
    """Build the model of a run, its prompts and head drawn by the run's seed.

    `like` is another run of the task whose images serve again, where both want the same of them.
    """
    if config.data.train_on == "train+val":
        task = task.train_and_val()
    model = _seeded_model(config, task)
    preprocessing = preprocessing_for(model, config.data)
    if like is not None and _same_images(like, task, config, preprocessing):
        return _with_model(like, config, model)
    share = process_rank()
    prepared = Prepared(
        task=task,
        config=config,
        model=model,
        preprocessing=preprocessing,
        train=train_loader(task.train, preprocessing, config, *share),
        val=None if task.val is None else eval_loader(task.val, preprocessing, config, *share),
        fingerprint=original_fingerprint(model),
    )
    _start_from_images(prepared)
    return _with_prefix(prepared) if _has_frozen_prefix(model) else _on_device(prepared)


def with_new_model(prepared: Prepared, config: RunConfig) -> Prepared:
    """The same images with another model, at the initial values that the seed of `config` gives."""
    return _with_model(prepared, config, _seeded_model(config, prepared.task))


def _seeded_model(config: RunConfig, task: Task) -> nn.Module:
    torch.manual_seed(config.train.seed)
    return build_model(config, num_classes=len(task.classes))


def _with_model(prepared: Prepared, config: RunConfig, model: nn.Module) -> Prepared:
    again = dataclasses.replace(prepared, config=config, model=model, fingerprint=original_fingerprint(model))
    _start_from_images(again)
    return again


def training_images(prepared: Prepared) -> Loader:
    """The training images without augmentation; those held in memory, where they are."""
    if prepared.config.data.augment_at_first == "none":
        return prepared.train
    return eval_loader(prepared.task.train, prepared.preprocessing, prepared.config)


def _start_from_images(prepared: Prepared) -> None:
    """Set the prompts whose initial values come from training images."""
    prompts = prepared.config.prompts
    if not find_prompts(prepared.model) or "patch" not in (prompts.init, prompts.kv_init):
        return
    images = training_images(prepared)
    if images.holds_computed:
        images = eval_loader(prepared.task.train, prepared.preprocessing, prepared.config)
    init_from_images(prepared.model, images.first_images(_INIT_IMAGES))


def _has_frozen_prefix(model: nn.Module) -> bool:
    """Whether blocks come before the first prompted one, with nothing tuned in them."""
    made = adapted_as(model)
    return made.prompts.first_block > 0 and made.options.beside == "none"


def holds_tokens(prepared: Prepared) -> bool:
    """Whether batches are what frozen blocks made of the images, and no images."""
    return _has_frozen_prefix(prepared.model) and prepared.train.holds_computed


def _on_device(prepared: Prepared) -> Prepared:
    """Images that every epoch sees alike kept on the GPU, where there is one and memory allows it."""
    device, config = open_processes().device, prepared.config
    splits = [split for split in (prepared.task.train, prepared.task.val) if split is not None]
    num_bytes = 4 * 3 * math.prod(prepared.preprocessing.image_size)
    if device.type == "cpu" or config.data.augment_at_first != "none":
        return prepared
    if any(num_bytes * len(split) > _KEEP_BYTES for split in splits):
        return prepared

    def move(images: Tensor) -> Tensor:
        return images.to(device)

    return dataclasses.replace(
        prepared,
        train=prepared.train.computed(move),
        val=None if prepared.val is None else prepared.val.computed(move),
    )


def _with_prefix(prepared: Prepared) -> Prepared:
    """Batches of what enters the first prompted block, where chance and memory allow it."""
    model, config = prepared.model, prepared.config
    splits = [split for split in (prepared.task.train, prepared.task.val) if split is not None]
    by_chance = config.data.augment_at_first != "none" or config.train.drop_path or config.train.mixup
    if by_chance or not isinstance(model, VisionTransformer):
        return prepared
    if any(num_prefix_bytes(model, len(split)) > _KEEP_BYTES for split in splits):
        return prepared
    device, autocast = open_processes().device, AUTOCAST[config.train.precision]
    return dataclasses.replace(
        prepared,
        train=with_prefix(prepared.train, model, device, autocast),
        val=None if prepared.val is None else with_prefix(prepared.val, model, device, autocast),
    )


def _same_images(like: Prepared, task: Task, config: RunConfig, preprocessing: Preprocessing) -> bool:
    """Whether a run's batches are those of another, to the last pixel."""
    names = ("batch_size", "seed", "accumulation")
    same = all(getattr(like.config.train, name) == getattr(config.train, name) for name in names)
    same = same and like.task == task and like.config.data == config.data
    return same and like.preprocessing == preprocessing and _prefix_of(like.config) == _prefix_of(config)


def _prefix_of(config: RunConfig) -> object:
    """What tokens kept in place of images depend on; None where batches are images."""
    first, train = config.prompts.first_block, config.train
    made_by = (config.backbone, config.weights, config.method, config.options)
    return (first, *made_by, train.precision, train.drop_path, train.mixup) if first else None


def build_model(config: RunConfig, *, num_classes: int) -> nn.Module:
    """The backbone of a run with its prompts, initialised from the global random state."""
    model: nn.Module = load_backbone(
        config.backbone, num_classes=num_classes, weights=config.weights, image_size=config.data.image_size
    )
    return adapt(model, config.method, config.prompts, config.options)


def eval_loader(
    split: Split, preprocessing: Preprocessing, config: RunConfig, rank: int = 0, world: int = 1
) -> Loader:
    """Batches of a split, in order, without augmentation."""
    size, workers = config.train.batch_size, config.data.workers
    return make_loader(
        split,
        preprocessing,
        batch_size=size,
        workers=workers,
        rank=rank,
        world=world,
        keep_bytes=_KEEP_BYTES,
    )


def train_loader(
    split: Split, preprocessing: Preprocessing, config: RunConfig, rank: int, world: int
) -> Loader:
    """Batches of a split, in an order of their own each epoch, augmented; with "auto" not yet."""
    return make_loader(
        split,
        preprocessing,
        batch_size=config.train.batch_size,
        augment=config.data.augment_at_first,
        shuffle=True,
        seed=config.train.seed,
        workers=config.data.workers,
        rank=rank,
        world=world,
        accumulation=config.train.accumulation,
        keep_bytes=_KEEP_BYTES,
    )
