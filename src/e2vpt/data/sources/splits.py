"""Which images train, validate and test: names of splits, and splitting off what the data does not have."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from e2vpt.config import DataConfig
from e2vpt.data.decoding.images import ImageSource
from e2vpt.data.randomness import shuffled
from e2vpt.data.sources.listing import refuse
from e2vpt.data.task import Split, Task, check_classes
from e2vpt.errors import DataError

SplitName = Literal["train", "val", "test"]
Labelled = Sequence[tuple[ImageSource, str]]
_NAMES: dict[str, SplitName] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
_STEMS: dict[str, SplitName] = {**_NAMES, "training": "train", "testing": "test"}


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledData:
    """What a reader found, held to no rule: it need have no split train, and no image of a class.

    Attributes:
        name: of the data set.
        classes: names, in the order of their numbers.
        found: images with class names, under "all" (no splits in the data) or by split.
        without_labels: splits that exist, but whose images have no labels.
        empty: class folders without an image.
    """

    name: str
    classes: tuple[str, ...]
    found: Mapping[SplitName | Literal["all"], Labelled]
    without_labels: tuple[SplitName, ...] = ()
    empty: tuple[str, ...] = ()

    def to_train(self, config: DataConfig) -> Task:
        """The task to train on, held to its rules; see `build_task`."""
        remedy = "Add images, or remove the folder"
        refuse(f"{self.name}: class folders without an image", self.empty, remedy)
        task = build_task(self.name, self.classes, self.found, config)
        return dataclasses.replace(task, without_labels=self.without_labels)


def split_name(text: str) -> SplitName | None:
    """The split that a folder, cell or key of this name means, in any case; None if it is no split."""
    return _NAMES.get(text.strip().lower())


def split_meant(text: str) -> SplitName | None:
    """The split that a longer name speaks of: Training, seg_test, ValImages, trainset; else None."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", text)
    meant = {which for word in words for stem, which in _STEMS.items() if word.lower() in _forms(stem)}
    return meant.pop() if len(meant) == 1 else None


def split_of_cell(text: str) -> SplitName | None:
    """The split that a cell of a table means: train, Training, test_set; None for other words (no train)."""
    word = re.sub(r"[\s_-]", "", text).lower()
    return next((which for stem, which in _STEMS.items() if word in _forms(stem)), None)


def _forms(stem: str) -> set[str]:
    return {stem + end for end in ("", "set", "data", "images", "imgs", "folder", "dir")}


def one_spelling(name: str) -> str:
    """A class name in one spelling, however it is stored: macOS keeps accents apart from their letters."""
    return unicodedata.normalize("NFC", name)


def stratified_split(labels: Sequence[int], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices that stay and indices that are split off, each ascending; together they are all of them.

    Of n images of a class, n·fraction (rounded) are split off, but at least one where the class has two, and
    never the last. A fixed function of the arguments on every platform; a class's share depends on its own
    images only.
    """
    members: defaultdict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        members[label].append(index)
    taken: set[int] = set()
    for label, indices in members.items():
        wanted = max(1, round(len(indices) * fraction)) if fraction > 0 else 0
        taken.update(shuffled(indices, "split", seed, label)[: min(wanted, len(indices) - 1)])
    return [i for i in range(len(labels)) if i not in taken], sorted(taken)


def build_task(
    name: str,
    classes: Sequence[str],
    found: Mapping[SplitName | Literal["all"], Labelled],
    config: DataConfig,
) -> Task:
    """A task from images with class names.

    `found` holds either "all" (no splits in the data: test and validation are split off) or "train" with or
    without "val" (split off training where missing) and "test" (None where missing).

    Raises:
        DataError: a class of `val` or `test` that is not in `classes`, and whatever `Task` refuses.
    """
    if not {"all", "train"} & set(found):
        raise DataError(
            f"{name}: no training images; found only {', '.join(sorted(found)) or 'nothing'}. "
            "Add a split called train; a class called like a split has to be renamed."
        )
    check_classes(name, classes)
    splits = {which: _numbered(f"{name}: {which}", classes, labelled) for which, labelled in found.items()}
    test, val = splits.get("test"), splits.get("val")
    if "all" in splits:
        train, test = _divide(name, splits["all"], "test", config.test_fraction, config.split_seed)
        train, val = _divide(
            name, train, "val", config.val_fraction / (1 - config.test_fraction), config.split_seed
        )
    else:
        train = splits["train"]
    if val is None and "all" not in splits:
        train, val = _divide(name, train, "val", config.val_fraction, config.split_seed)
    return Task(name=name, classes=tuple(classes), train=train, val=val, test=test)


def _numbered(where: str, classes: Sequence[str], labelled: Labelled) -> Split:
    number = {name: label for label, name in enumerate(classes)}
    unknown = sorted({repr(name) for _, name in labelled if name not in number})
    if unknown:
        raise DataError(
            f"{where} has class {', '.join(unknown)}, unknown to train. Rename it, or add it to train."
        )
    images = tuple(image for image, _ in labelled)
    return Split(images=images, labels=tuple(number[name] for _, name in labelled))


def _divide(name: str, split: Split, what: str, fraction: float, seed: int) -> tuple[Split, Split | None]:
    """`split` without and with only the part split off, which is None for a fraction of 0."""
    if fraction == 0 or not len(split):
        return split, None
    rest, taken = stratified_split(split.labels, fraction, seed)
    if not taken:
        raise DataError(
            f"{name}: no image can be spared for {what}, every class has only one left. "
            f"Add images, or set {what}_fraction to 0."
        )
    return split.subset(rest), split.subset(taken)
