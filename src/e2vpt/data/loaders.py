"""Splits become batches of tensors: the same numbers whatever the number of workers and processes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from e2vpt.config.fields import check_count
from e2vpt.data.batches import deal, epoch_batches
from e2vpt.data.preprocess import Preprocessing
from e2vpt.data.samples import ComputedDataset, EpochIndex, Sample, TaskDataset
from e2vpt.data.task import Split
from e2vpt.data.transforms import Augment, train_transform
from e2vpt.errors import DataError, UnreadableImages, check_type

Batch = tuple[Tensor, Tensor]


@dataclass(kw_only=True, slots=True)
class _Dealer:
    """The micro-batches of one process, as lists of keys."""

    num_images: int
    batch_size: int
    seed: int
    shuffle: bool
    rank: int
    world: int
    accumulation: int
    epoch: int = 0

    def global_batches(self) -> list[list[int]]:
        return epoch_batches(self.num_images, self.batch_size, self.seed, self.epoch, self.shuffle)

    def __iter__(self) -> Iterator[list[EpochIndex]]:
        for batch in self.global_batches():
            for share in deal(batch, self.accumulation, self.rank, self.world):
                if share:
                    yield [(self.epoch, index) for index in share]

    def __len__(self) -> int:
        in_order = epoch_batches(self.num_images, self.batch_size, 0, 0, shuffle=False)
        shares = (deal(batch, self.accumulation, self.rank, self.world) for batch in in_order)
        return sum(bool(share) for dealt in shares for share in dealt)

    def check_shares(self) -> None:
        """In training every process must take part in every step, or the others wait for it for ever."""
        smallest = min(map(len, self.global_batches()), default=0)
        if smallest // self.accumulation < self.world:
            raise DataError(
                f"The smallest batch has {smallest} images, too few for {self.accumulation} accumulation "
                f"part(s) on {self.world} process(es). Lower one of them, or raise the batch size."
            )


class Loader:
    """Micro-batches of one process: images float32 [b, 3, H, W] and labels int64 [b].

    A global batch (one optimizer step) comes as `accumulation` micro-batches on each of `world` processes.
    When not shuffling, empty shares are left out, so processes may differ in length.
    """

    def __init__(self, dataset: TaskDataset | ComputedDataset, dealer: _Dealer, workers: int) -> None:
        self._dealer = dealer
        self._dataset = dataset
        self._workers = workers
        self._split = dataset.split
        is_on_device = isinstance(dataset, ComputedDataset) and dataset.values.device.type != "cpu"
        self._batches: DataLoader[Sample] = DataLoader(
            dataset,
            batch_sampler=dealer,
            num_workers=min(workers, _cores()),
            persistent_workers=workers > 0,
            collate_fn=_collate,
            pin_memory=torch.cuda.is_available() and not is_on_device,
        )

    def __iter__(self) -> Iterator[Batch]:
        """The current epoch.

        Raises:
            UnreadableImages: naming the images of a micro-batch that do not decode.
        """
        for batch in self._batches:
            if isinstance(batch, UnreadableImages):
                # Not `raise batch`: that cycle through this frame delays the end of the workers by seconds.
                raise UnreadableImages(batch.problems)
            images, labels = batch
            yield images, labels

    def __len__(self) -> int:
        """Micro-batches per epoch on this process."""
        return len(self._dealer)

    def in_order(self) -> Loader:
        """The whole split on this process, in order: the same images, those kept in memory included."""
        dealer = dataclasses.replace(self._dealer, shuffle=False, rank=0, world=1, accumulation=1, epoch=0)
        return Loader(self._dataset, dealer, self._workers)

    def first_images(self, count: int) -> Tensor:
        """Up to `count` images [b, 3, H, W] of the whole split, the same for every run and process."""
        dealer = dataclasses.replace(
            self._dealer, batch_size=count, seed=0, shuffle=True, rank=0, world=1, accumulation=1, epoch=0
        )
        images, _ = next(iter(Loader(self._dataset, dealer, workers=0)))
        return images

    def computed(self, compute: Callable[[Tensor], Tensor]) -> Loader:
        """Batches of the same order that hold `compute(images)` [b, ...], computed here and now."""
        values = torch.cat([compute(images) for images, _ in self.in_order()])
        return Loader(ComputedDataset(self._split, values), dataclasses.replace(self._dealer), workers=0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order and the augmentation of the next iteration."""
        self._dealer.epoch = epoch

    @property
    def holds_computed(self) -> bool:
        """Whether batches are what `computed` made of the images."""
        return isinstance(self._dataset, ComputedDataset)

    @property
    def num_images(self) -> int:
        """Images in the split, over all processes."""
        return len(self._split)

    @property
    def labels(self) -> tuple[int, ...]:
        """Labels of the whole split, in its own order."""
        return self._split.labels


def make_loader(
    split: Split,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    augment: Augment = "none",
    shuffle: bool = False,
    seed: int = 0,
    workers: int = 0,
    rank: int = 0,
    world: int = 1,
    accumulation: int = 1,
    keep_bytes: int = 0,
) -> Loader:
    """A loader of one split for one process; `batch_size` counts images over all processes and parts.

    Without workers, up to `keep_bytes` of decoded images, preprocessed as far as there is no chance in it,
    are kept in memory for the next epoch, and for the next training with this loader.

    Raises:
        ConfigError: an argument of another type, or out of range.
        DataError: when shuffling (training), a batch too small to give every process an image of every part.
    """
    check_type("split", split, Split)
    check_type("preprocessing", preprocessing, Preprocessing)
    check_type("augment", augment, str)
    for name, count, least in (("batch_size", batch_size, 1), ("workers", workers, 0), ("seed", seed, 0)):
        check_count(name, count, least)
    check_count("accumulation", accumulation, 1, batch_size)
    check_count("world", world, 1)
    check_count("rank", rank, 0, world - 1)
    dealer = _Dealer(
        num_images=len(split),
        batch_size=batch_size,
        seed=seed,
        shuffle=shuffle,
        rank=rank,
        world=world,
        accumulation=accumulation,
    )
    if shuffle:
        dealer.check_shares()
    room = 0 if workers else keep_bytes
    transform = train_transform(preprocessing, augment)
    dataset = TaskDataset(split, transform, seed, room, as_stored=preprocessing.as_stored)
    return Loader(dataset, dealer, workers)


def _collate(samples: Batch | list[Sample | UnreadableImages]) -> Batch | UnreadableImages:
    if isinstance(samples, tuple):
        return samples
    problems: dict[str, str] = {}
    good: list[Sample] = []
    for sample in samples:
        if isinstance(sample, UnreadableImages):
            problems.update(sample.problems)
        else:
            good.append(sample)
    if problems:
        return UnreadableImages(problems)
    return torch.stack([image for image, _ in good]), torch.tensor([label for _, label in good])


def _cores() -> int:
    """Cores this process may use; the DataLoader warns about more workers than that."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
