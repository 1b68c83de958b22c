"""`augment="auto"`: which augmentation a task bears, asked of a model that has learned it without any.

A model that knows its task still knows an image that was mirrored or moved a little aside, unless left and
right or places are what the task is about. On 14 tasks (docs/diary.md) mirrored images cost 15.5 of 100 and
more on letters, signs, places and directions, and at most 5.5 on the other nine.

A run asks once, when half of its first training is over, writes the answer to augmentation.json, and goes on
with what is borne.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

from e2vpt.data import make_loader
from e2vpt.data.loaders import Batch, Loader
from e2vpt.data.transforms import Augment
from e2vpt.runs.folders.augmentation import Borne, read_borne, write_borne
from e2vpt.runs.prepare import Prepared, holds_tokens, train_loader
from e2vpt.training.epochs import AUTOCAST
from e2vpt.training.evaluate import evaluate
from e2vpt.training.processes import as_the_first, is_first_process, process_rank

MOST_LOST = 0.08
"""Share of the validation images that a model may lose and still be said to know them."""
_LEAST_KNOWN = 0.3
"""Accuracy from which on a model has something to lose: 0 is chance, 1 is all right."""


class SwitchingBatches:
    """Batches without augmentation, from some epoch on with the one that is asked for then.

    Args:
        plain: the batches without.
        first: the epoch from which on they are augmented.
        later: gives the augmented ones, once.
    """

    def __init__(self, plain: Loader, first: int, later: Callable[[], Loader]) -> None:
        self._plain, self._first, self._later = plain, first, later
        self._augmented: Loader | None = None
        self._now = plain

    def set_epoch(self, epoch: int) -> None:
        """Choose order and augmentation of the next iteration."""
        if epoch >= self._first and self._augmented is None:
            self._augmented = self._later()
        self._now = self._plain if self._augmented is None or epoch < self._first else self._augmented
        self._now.set_epoch(epoch)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self._now)

    def __len__(self) -> int:
        return len(self._plain)

    @property
    def labels(self) -> tuple[int, ...]:
        """Labels of the whole split."""
        return self._plain.labels

    @property
    def num_images(self) -> int:
        """Images in the split."""
        return self._plain.num_images


def switching(
    prepared: Prepared, out: Path, say: Callable[[str], None], epochs: int
) -> Loader | SwitchingBatches:
    """The batches of a run's first training, of so many epochs."""
    if not asks(prepared):
        return prepared.train
    if prepared.val is None:
        say(str(_asked(prepared)))
        return prepared.train
    if epochs < 2:
        return prepared.train
    return SwitchingBatches(
        prepared.train,
        (epochs + 1) // 2,
        lambda: augmented(prepared, borne(prepared, out, say).augment).train,
    )


def asks(prepared: Prepared) -> bool:
    """Whether a run asks its model: not where batches are what frozen blocks made of the images, once."""
    return prepared.config.data.augment == "auto" and not holds_tokens(prepared)


def augmented(prepared: Prepared, augment: Augment) -> Prepared:
    """The same run with another augmentation."""
    data = dataclasses.replace(prepared.config.data, augment=augment)
    config = dataclasses.replace(prepared.config, data=data)
    if augment == "none":
        return dataclasses.replace(prepared, config=config)
    train = train_loader(prepared.task.train, prepared.preprocessing, config, *process_rank())
    return dataclasses.replace(prepared, config=config, train=train)


def borne(prepared: Prepared, out: Path, say: Callable[[str], None]) -> Borne:
    """What the model as it is now bears; the answer is said, and kept in the run folder for the next time."""
    known = as_the_first(read_borne(out))
    if known is None:
        known = as_the_first(_asked(prepared))
        if is_first_process():
            write_borne(out, known)
        if known.plain is not None:  # It was said before the first epoch that there are no images to ask.
            say(str(known))
    return known


def _asked(prepared: Prepared) -> Borne:
    split, model = prepared.task.val, prepared.model
    if split is None or prepared.val is None:
        return Borne(plain=None, mirrored=None, shifted=None, augment="none")
    whole = prepared.val.in_order()
    moved = make_loader(
        split, prepared.preprocessing, batch_size=prepared.config.train.batch_size, augment="shift"
    )
    # As in the epoch that is about to begin: its frozen weights may be held in bf16 already.
    autocast = AUTOCAST[prepared.config.train.precision]
    flipped = ((images.flip(-1), labels) for images, labels in whole)
    plain, mirrored, shifted = (
        evaluate(model, batches, autocast=autocast).accuracy for batches in (whole, flipped, moved)
    )
    return Borne(
        plain=plain,
        mirrored=mirrored,
        shifted=shifted,
        augment=borne_augmentation(plain, mirrored, shifted, num_classes=len(prepared.task.classes)),
    )


def borne_augmentation(plain: float, mirrored: float, shifted: float, *, num_classes: int) -> Augment:
    """The augmentation that a model of these accuracies bears."""
    chance = 1 / num_classes
    if plain < chance + _LEAST_KNOWN * (1 - chance):
        return "none"
    flips, shifts = (plain - changed <= MOST_LOST for changed in (mirrored, shifted))
    if flips:
        return "crop-flip" if shifts else "flip"
    return "shift" if shifts else "none"
