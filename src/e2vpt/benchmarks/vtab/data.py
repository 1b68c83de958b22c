"""A task of VTAB-1k as it was read, from whatever source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from e2vpt.data.task import Task

Source = Literal["tfds", "image lists"]


@dataclass(frozen=True, kw_only=True, slots=True)
class VtabData:
    """A task and where it came from: scores of different sources do not belong in one table.

    Attributes:
        task: train, val and test; some classes may have no training images, as the official draw has it.
        source, where: of which form, and the folder.
        notes: what may make its images others than those of published numbers.
    """

    task: Task
    source: Source
    where: str
    notes: tuple[str, ...] = ()
