"""Where each value of a task lies in one long vector, so that one copy gathers those of a whole batch.

Shapes: B images, P numbers of a task, t rows of a table, H heads, d head width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from e2vpt.multitask.values import TABLE_OF

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class VectorLayout:
    """Names and shapes of values, in the order in which they follow each other.

    A table has room for the most rows [t, 2, H, d] that any task has in its block; others' lie in front.
    """

    shapes: Mapping[str, Shape]

    @classmethod
    def of(cls, values: Mapping[str, Tensor]) -> VectorLayout:
        """That of one task."""
        return cls({name: tuple(tensor.shape) for name, tensor in values.items()})

    @property
    def size(self) -> int:
        """Numbers of a vector, P."""
        return sum(map(math.prod, self.shapes.values()))

    def holds(self, other: VectorLayout) -> bool:
        """Whether a task of the other layout finds room."""
        known = self.shapes
        return all(name in known and known[name] >= shape for name, shape in other.shapes.items())

    def joined(self, other: VectorLayout) -> VectorLayout:
        """Room for the tasks of both."""
        both = dict(self.shapes)
        for name, shape in other.shapes.items():
            both[name] = max(both.get(name, shape), shape)
        return VectorLayout(both)

    def vector(self, values: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Tensor:
        """A task's values as a vector [P]; those it does not bring are the backbone's `own`."""
        parts = []
        for name, shape in self.shapes.items():
            value = values[name] if name in values else _default(name, shape, own)
            missing = math.prod(shape) - value.numel()
            parts += [value.reshape(-1), value.new_zeros(missing)]
        return torch.cat(parts) if parts else torch.zeros(0)

    def views(self, vectors_BP: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
        """Some values of every vector, [B, *shape]."""
        pieces = torch.split(vectors_BP, list(map(math.prod, self.shapes.values())), dim=-1)
        by_name = dict(zip(self.shapes, pieces, strict=True))
        return {name: torch.unflatten(by_name[name], -1, self.shapes[name]) for name in names}


def num_rows(values: Mapping[str, Tensor], block: int) -> int:
    """Rows of a task's table in a block, t."""
    table = values.get(f"{TABLE_OF}{block}")
    return 0 if table is None else len(table)


def _default(name: str, shape: Shape, own: Mapping[str, Tensor]) -> Tensor:
    """What the backbone computes with where a task brings nothing."""
    if name in own:
        return own[name].detach().float().cpu()
    return torch.zeros(0) if name.startswith(TABLE_OF) else torch.ones(shape)
