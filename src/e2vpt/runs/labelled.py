"""Labelled images in the order of an adapter's classes."""

from __future__ import annotations

from typing import Literal

from e2vpt.adapters.header import AdapterInfo
from e2vpt.data import Split, Task
from e2vpt.errors import DataError

WhichSplit = Literal["train", "val", "test", "all"]


def labelled_images(task: Task, which: WhichSplit, info: AdapterInfo) -> Split:
    """One split of a task, or all of them, its labels numbered as the adapter's classes are.

    Raises:
        DataError: the task has no such split, or a class that the adapter does not know.
    """
    unknown = sorted(set(task.classes) - set(info.classes))
    if unknown:
        raise DataError(
            f"{task.name} has classes the adapter does not know: {', '.join(unknown[:10])}. "
            f"It knows {', '.join(info.classes[:10])}{', ...' if len(info.classes) > 10 else ''}."
        )
    split = _chosen(task, which)
    number = {name: index for index, name in enumerate(info.classes)}
    return Split(images=split.images, labels=tuple(number[task.classes[y]] for y in split.labels))


def _chosen(task: Task, which: WhichSplit) -> Split:
    splits = task.splits()
    if which == "all":
        images = tuple(image for split in splits.values() for image in split.images)
        return Split(images=images, labels=tuple(y for split in splits.values() for y in split.labels))
    if which not in splits:
        raise DataError(f"{task.name} has no {which} images, only {', '.join(splits)}. Choose another split.")
    return splits[which]
