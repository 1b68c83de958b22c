"""A task: its classes, and images with labels for training, validation and test."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from e2vpt.data.decoding.images import ImageSource, OnProgress, unreadable_images
from e2vpt.errors import DataError, UnreadableImages, check_type


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Images and, for each, the number of its class."""

    images: tuple[ImageSource, ...]
    labels: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise DataError(
                f"{len(self.images)} images but {len(self.labels)} labels; expected one label per image."
            )

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: Iterable[int]) -> Split:
        """The images at `indices`, in that order."""
        chosen = list(indices)
        return Split(
            images=tuple(self.images[i] for i in chosen), labels=tuple(self.labels[i] for i in chosen)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One image-classification task, checked when made.

    Labels index `classes`. `val` and `test` are None where the data has none. Without `complete` a class may
    have no training images, as in the official draws of 800 for VTAB-1k. `without_labels` names splits of the
    data that were left out, as their images have no labels; `left_out` holds images that did not decode and
    were left out, each with the reason.

    Raises:
        DataError: fewer than two classes, a class that is unnamed, listed twice or without training images,
            an empty split, or a label that is no class.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split | None = None
    test: Split | None = None
    complete: bool = True
    without_labels: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        check_type("classes", self.classes, tuple, list)
        check_type("train", self.train, Split)
        check_classes(self.name, self.classes)
        for which, split in self.splits().items():
            _check_split(f"{self.name}: {which}", split, len(self.classes))
        present = set(self.train.labels)
        empty = [repr(name) for label, name in enumerate(self.classes) if label not in present]
        if empty and self.complete:
            raise DataError(
                f"{self.name}: no training image of class {', '.join(empty)}. "
                "Add some, or remove the class everywhere."
            )

    def splits(self) -> dict[str, Split]:
        """The splits that exist, by name, training first."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}

    def decoded(self, *, skip: bool, progress: OnProgress | None = None) -> Task:
        """The task, once each of its images was decoded; with `skip`, without those that are unreadable.

        Raises:
            UnreadableImages: some are, and they are not to be left out.
            DataError: too few images are left.
        """
        splits = self.splits()
        bad = unreadable_images([image for split in splits.values() for image in split.images], progress)
        if not bad:
            return self
        if not skip:
            raise UnreadableImages(bad)
        try:
            good = {name: _without(split, bad) for name, split in splits.items()}
            return dataclasses.replace(self, **good, left_out=tuple(bad.items()))  # type: ignore[arg-type]
        except DataError as error:
            raise DataError(f"{error} {len(bad)} unreadable image(s) were left out.") from error

    def train_and_val(self) -> Task:
        """The task with its validation images among those to train on, once settings are chosen (VTAB)."""
        if self.val is None:
            return self
        images, labels = self.train.images + self.val.images, self.train.labels + self.val.labels
        return dataclasses.replace(self, train=Split(images=images, labels=labels), val=None)


def _without(split: Split, names: Collection[str]) -> Split:
    return split.subset(index for index, image in enumerate(split.images) if image.name not in names)


def check_classes(task: str, classes: Sequence[str]) -> None:
    """Raise DataError unless there are at least two classes, each with a name of its own."""
    if len(classes) < 2:
        found = ", ".join(map(repr, classes)) or "none"
        raise DataError(f"{task}: classes found: {found}; at least two are needed. Is it the right folder?")
    if any(not isinstance(name, str) or not name.strip() for name in classes):
        raise DataError(f"{task}: a class has an empty name. Name it.")
    twice = [repr(name) for name, count in Counter(classes).items() if count > 1]
    if twice:
        raise DataError(f"{task}: class {', '.join(twice)} occurs twice. Merge or rename.")


def _check_split(where: str, split: Split, num_classes: int) -> None:
    if not len(split):
        raise DataError(f"{where} has no images. Add some, or leave this split out.")
    unknown = sorted(label for label in set(split.labels) if not 0 <= label < num_classes)
    if unknown:
        raise DataError(f"{where} has labels {unknown}; expected 0 to {num_classes - 1}.")
