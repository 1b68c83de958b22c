"""Data set objects in the manner of torchvision: `len(data)` and `data[i] -> (image, label)`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from PIL import Image

from e2vpt.config import DataConfig
from e2vpt.data.decoding.images import ImageSource, as_rgb
from e2vpt.data.sources.splits import Labelled, SplitName, build_task
from e2vpt.data.task import Task
from e2vpt.errors import DataError, UnreadableImages


class LabelledImages(Protocol):
    """What torchvision's data sets, `torch.utils.data.Subset` and a list of pairs have in common."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any:
        """An (image, label) pair: a PIL image, array [H, W(, C)] or tensor [C, H, W], and a whole number."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ImageOfObject:
    """The image of one item of a data set object, made anew whenever it is opened."""

    name: str
    items: LabelledImages
    index: int

    def open(self, as_stored: bool = False) -> Image.Image:
        """See `ImageSource.open`."""
        return as_rgb(_item(self.items, self.index, self.name)[0], self.name, as_stored)


def from_datasets(
    name: str,
    train: LabelledImages,
    val: LabelledImages | None = None,
    test: LabelledImages | None = None,
    *,
    classes: Sequence[str] | None = None,
    config: DataConfig | None = None,
) -> Task:
    """A task from data set objects; validation is split off `train` where it is not given.

    Give them without transforms, or with ToTensor at most: resizing and normalising happen here. Classes
    are `classes`, or `train.classes`, or the labels themselves; a split with other `.classes` than those of
    train, as an `ImageFolder` that lacks one has, is read by names. Labels come from `.targets` where the
    object has it, otherwise every item is read once.

    Raises:
        DataError: labels that are not whole numbers, or do not fit the classes.
    """
    given: dict[SplitName | Literal["all"], LabelledImages | None] = {
        "train": train,
        "val": val,
        "test": test,
    }
    objects = {which: items for which, items in given.items() if items is not None}
    labels = {which: _labels(f"{name} {which}", items) for which, items in objects.items()}
    names = list(map(str, classes)) if classes is not None else _classes_of(train)
    names = names or [str(label) for label in range(max(labels["train"], default=-1) + 1)]
    found = {}
    for which, items in objects.items():
        own = (_classes_of(items) if classes is None else []) or names
        found[which] = _labelled(f"{name} {which}", items, labels[which], own, names)
    return build_task(name, names, found, config or DataConfig())


def _classes_of(items: Any) -> list[str]:
    """Names of classes, also behind a `Subset`; none where the object has none."""
    found = getattr(items, "classes", None)
    if found is None and hasattr(items, "dataset"):
        return _classes_of(items.dataset)
    return list(map(str, found or []))


def _item(items: LabelledImages, index: int, name: str) -> Any:
    try:
        return items[index]
    except Exception as error:  # Somebody else's code: whatever it raises, the item gets named.
        raise UnreadableImages({name: f"{type(error).__name__}: {error}"}) from error


def _labels(where: str, items: LabelledImages) -> list[int]:
    known = None if getattr(items, "target_transform", None) else getattr(items, "targets", None)
    values = _read_labels(where, items) if known is None else list(known)
    if len(values) != len(items):
        raise DataError(f"{where}: {len(values)} targets for {len(items)} images; expected one each.")
    return [_whole(f"{where}[{i}]", value) for i, value in enumerate(values)]


def _read_labels(where: str, items: LabelledImages) -> list[Any]:
    values, problems = [], {}
    for index in range(len(items)):
        try:
            values.append(_item(items, index, f"{where}[{index}]")[1])
        except UnreadableImages as error:
            problems.update(error.problems)
    if problems:
        raise UnreadableImages(problems)
    return values


def _whole(where: str, value: Any) -> int:
    try:
        number = int(value)
        if number == value:
            return number
    except (TypeError, ValueError, OverflowError, RuntimeError):
        pass
    raise DataError(f"{where}: the label is {value!r}; expected a whole number.")


def _labelled(
    where: str, items: LabelledImages, labels: list[int], own: list[str], names: list[str]
) -> Labelled:
    """Images with the names of their classes: `own` by the object's numbers, `names` those of train."""
    outside = sorted({label for label in labels if not 0 <= label < len(own)})
    if outside:
        raise DataError(f"{where}: labels {outside}; expected 0 to {len(own) - 1}, one for each class.")
    unknown = sorted({own[label] for label in labels} - set(names))
    if unknown:
        raise DataError(
            f"{where}: images of {', '.join(map(repr, unknown[:8]))}; expected classes of train: "
            f"{', '.join(map(repr, names[:8]))}{', ...' if len(names) > 8 else ''}."
        )
    images: list[ImageSource] = [
        ImageOfObject(name=f"{where}[{i}]", items=items, index=i) for i in range(len(labels))
    ]
    return [(image, own[label]) for image, label in zip(images, labels, strict=True)]
