"""Tasks' values on the device: a row of one matrix each, the least recently used giving way."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from e2vpt.errors import ConfigError
from e2vpt.multitask.layout import VectorLayout
from e2vpt.multitask.values import NOTHING, TaskValues

Head = tuple[Tensor, Tensor]


class Slots:
    """Rows of a matrix [n, P] on the device, up to `limit` beside the first, the backbone alone; and heads.

    Args:
        own: the backbone's values, by name.
        like: a tensor of the device and precision in which the backbone computes.
        limit: tasks on the device at a time.
    """

    def __init__(self, own: Mapping[str, Tensor], like: Tensor, limit: int) -> None:
        self._own = own
        self._limit = limit
        self._like = like.detach()
        self._layout = VectorLayout({})
        self._rows = self._like.new_zeros(1, 0)
        self._held: OrderedDict[str, tuple[int, TaskValues, Head]] = OrderedDict()
        self._free: list[int] = []
        self.evictions = 0

    @property
    def layout(self) -> VectorLayout:
        """The order of a row."""
        return self._layout

    @property
    def num_bytes(self) -> int:
        """Of the matrix and the heads."""
        heads = [part for _, _, head in self._held.values() for part in head]
        return sum(part.numel() * part.element_size() for part in [self._rows, *heads])

    def __len__(self) -> int:
        """Tasks on the device."""
        return len(self._held)

    def __contains__(self, digest: str) -> bool:
        return digest in self._held

    def drop(self, digest: str) -> None:
        """Give back a task's row, if it has one."""
        held = self._held.pop(digest, None)
        if held is not None:
            self._free.append(held[0])

    def rows(self, tasks: Sequence[TaskValues]) -> tuple[Tensor, list[Head]]:
        """The vectors [b, P] and heads of tasks, each brought to the device if it is not there.

        Raises:
            ConfigError: more different tasks than may be there.
        """
        wanted = {task.digest: task for task in tasks if task is not NOTHING}
        if len(wanted) > self._limit:
            raise ConfigError(
                f"{len(wanted)} tasks in one batch; on_device lets {self._limit} be on the device at a time."
            )
        for digest in wanted:
            if digest in self._held:
                self._held.move_to_end(digest)
        missing = {digest: task for digest, task in wanted.items() if digest not in self._held}
        self._make_room(list(missing.values()))
        for digest, task in missing.items():
            self._put(digest, task)
        held = [None if task is NOTHING else self._held[task.digest] for task in tasks]
        found = [(0, NOTHING.head) if one is None else (one[0], one[2]) for one in held]
        index = torch.tensor([number for number, _ in found], device=self._rows.device)
        return self._rows.index_select(0, index), [head for _, head in found]

    def _make_room(self, coming: Sequence[TaskValues]) -> None:
        while len(self._held) + len(coming) > self._limit:
            self.drop(next(iter(self._held)))
            self.evictions += 1
        layout = self._layout
        for task in coming:
            layout = layout.joined(VectorLayout.of(task.by_name))
        if layout != self._layout:
            self._write_again(layout)
        needed = 1 + len(self._held) + len(coming)
        if needed > len(self._rows):
            self._grow(min(1 + self._limit, max(needed, 2 * len(self._rows))))

    def _grow(self, num_rows: int) -> None:
        before = len(self._rows)
        self._free += range(before, num_rows)
        self._rows = torch.cat([self._rows, self._rows.new_zeros(num_rows - before, self._layout.size)])

    def _write_again(self, layout: VectorLayout) -> None:
        """A matrix of another layout, with everything that is held."""
        self._layout = layout
        self._rows = self._like.new_zeros(len(self._rows), layout.size)
        for number, task in [(0, NOTHING), *((number, task) for number, task, _ in self._held.values())]:
            self._write(number, task)

    def _put(self, digest: str, task: TaskValues) -> None:
        number = self._free.pop()
        self._write(number, task)
        weight, bias = task.head
        self._held[digest] = (number, task, (self._moved(weight), self._moved(bias)))

    def _write(self, number: int, task: TaskValues) -> None:
        self._rows[number] = self._moved(self._layout.vector(task.by_name, self._own))

    def _moved(self, value: Tensor) -> Tensor:
        return value.to(self._like.device, self._like.dtype)
