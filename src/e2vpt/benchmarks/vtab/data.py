"""A task of VTAB-1k as it was read, from whatever source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from e2vpt.data.task import Split, Task

Source = Literal["tfds", "image lists"]


@dataclass(frozen=True, kw_only=True, slots=True)
class VtabData:
    """A task's images and where they came from: scores of different sources do not belong in one table.

    `where` is a folder, `notes` is what may make its images others than those of published numbers.
    """

    name: str
    source: Source
    where: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    notes: tuple[str, ...] = ()

    def absent(self) -> tuple[str, ...]:
        """Classes without an image among the 800 to train on (the official draw does not see to it)."""
        present = set(self.train.labels)
        return tuple(name for label, name in enumerate(self.classes) if label not in present)

    def task(self) -> Task:
        """The same as a task; a class of `absent` stays one, and its test images count as errors."""
        return Task(
            name=self.name,
            classes=self.classes,
            train=self.train,
            val=self.val,
            test=self.test,
            complete=False,
        )
