"""Tasks' values on the device: a row of one matrix each, the least recently used giving way."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

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
        max_bytes: of the matrix, and as many again of the heads, but for those of one batch; None for no
            bound. Growing the matrix takes as much again for a moment.
    """

    def __init__(
        self, own: Mapping[str, Tensor], like: Tensor, limit: int, max_bytes: int | None = None
    ) -> None:
        self._own = own
        self._limit = limit
        self._max_bytes = max_bytes
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
        return self._rows.numel() * self._rows.element_size() + self._head_bytes()

    def _head_bytes(self) -> int:
        return sum(_size(head) for _, _, head in self._held.values())

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

    def most(self, layout: VectorLayout) -> int:
        """Tasks that have room at a time where rows have this layout."""
        row = layout.size * self._like.element_size()
        if self._max_bytes is None or row == 0:
            return self._limit
        return min(self._limit, max(0, self._max_bytes // row - 1))

    def rows(self, tasks: Sequence[TaskValues]) -> tuple[Tensor, list[Head]]:
        """The vectors [b, P] and heads of tasks, each brought to the device if it is not there.

        Raises:
            ConfigError: more different tasks than may be there.
        """
        wanted = {task.digest: task for task in tasks if task is not NOTHING}
        for digest in wanted:
            if digest in self._held:
                self._held.move_to_end(digest)
        missing = {digest: task for digest, task in wanted.items() if digest not in self._held}
        if missing:
            self._make_room(wanted, missing)
            self._make_room_for_heads(wanted, missing)
        for digest, task in missing.items():
            self._put(digest, task)
        held = [None if task is NOTHING else self._held[task.digest] for task in tasks]
        found = [(0, NOTHING.head) if one is None else (one[0], one[2]) for one in held]
        index = torch.tensor([number for number, _ in found], device=self._rows.device, dtype=torch.long)
        return self._rows.index_select(0, index), [head for _, head in found]

    def _make_room(self, wanted: Mapping[str, TaskValues], coming: Mapping[str, TaskValues]) -> None:
        layout = _joined(self._layout, coming.values())
        if len(wanted) > self.most(layout):
            # Perhaps only those that are there and not wanted need so long a row.
            layout = _joined(VectorLayout({}), wanted.values())
            if len(wanted) > self.most(layout):
                most = self.most(layout)
                which = "on_device" if most == self._limit else "device_bytes"
                raise ConfigError(
                    f"{len(wanted)} tasks in one batch; {which} lets {most} be on the device at a time."
                )
            self._evict(len(wanted) - len(coming))
        self._evict(self.most(layout) - len(coming))
        needed = 1 + len(self._held) + len(coming)
        if layout != self._layout:
            most = 1 + self.most(layout)
            if layout.holds(self._layout) and most >= len(self._rows):
                self._widen(layout, max(needed, len(self._rows)))
            else:
                self._write_again(layout, needed)
        elif needed > len(self._rows):
            self._grow(min(1 + self.most(layout), max(needed, 2 * len(self._rows))))

    def _make_room_for_heads(
        self, wanted: Mapping[str, TaskValues], coming: Mapping[str, TaskValues]
    ) -> None:
        if self._max_bytes is None:
            return
        numbers = sum(part.numel() for task in coming.values() for part in task.head)
        excess = self._head_bytes() + numbers * self._like.element_size() - self._max_bytes
        for digest in [digest for digest in self._held if digest not in wanted]:
            if excess <= 0:
                break
            excess -= _size(self._held[digest][2])
            self.drop(digest)
            self.evictions += 1

    def last_that_fit(self, tasks: Sequence[TaskValues]) -> Sequence[TaskValues]:
        """As many of the last tasks as have room at a time."""
        layout, count = VectorLayout({}), 0
        for task in reversed(tasks):
            layout = _joined(layout, [task])
            if count == self.most(layout):
                break
            count += 1
        return tasks[len(tasks) - count :]

    def _evict(self, left: int) -> None:
        """Drop the least recently used until so many are left."""
        while len(self._held) > left:
            self.drop(next(iter(self._held)))
            self.evictions += 1

    def _grow(self, num_rows: int) -> None:
        before = len(self._rows)
        self._rows = torch.cat([self._rows, self._rows.new_zeros(num_rows - before, self._layout.size)])
        self._free += range(before, num_rows)

    def _widen(self, layout: VectorLayout, num_rows: int) -> None:
        """A matrix of a layout that holds the present one, copied on the device whatever is held."""
        before = len(self._rows)
        rows = self._moved(layout.vector({}, self._own)).repeat(num_rows, 1)
        wider = layout.views(rows[:before], self._layout.shapes)
        for name, value in self._layout.views(self._rows, self._layout.shapes).items():
            wider[name][:, : value.shape[1]] = value
        self._rows, self._layout = rows, layout
        self._free += range(before, num_rows)

    def _write_again(self, layout: VectorLayout, num_rows: int) -> None:
        """A matrix of another layout, with everything that is held."""
        # First: where memory for it is missing, nothing has changed.
        self._rows = self._like.new_zeros(num_rows, layout.size)
        self._layout = layout
        self._free = list(range(1 + len(self._held), num_rows))
        for number, (digest, (_, task, head)) in enumerate(list(self._held.items()), 1):
            self._held[digest] = (number, task, head)
            self._write(number, task)
        self._write(0, NOTHING)

    def _put(self, digest: str, task: TaskValues) -> None:
        number = self._free.pop()
        self._write(number, task)
        weight, bias = task.head
        self._held[digest] = (number, task, (self._moved(weight), self._moved(bias)))

    def _write(self, number: int, task: TaskValues) -> None:
        self._rows[number] = self._moved(self._layout.vector(task.by_name, self._own))

    def _moved(self, value: Tensor) -> Tensor:
        return value.to(self._like.device, self._like.dtype)


def _size(head: Head) -> int:
    return sum(part.numel() * part.element_size() for part in head)


def _joined(layout: VectorLayout, tasks: Iterable[TaskValues]) -> VectorLayout:
    """Room for some tasks beside what a layout has room for."""
    for task in tasks:
        layout = layout.joined(VectorLayout.of(task.by_name))
    return layout
