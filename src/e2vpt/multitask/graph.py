"""Many tasks as one graph: everything a task brings comes in with the images, as a vector for each.

Shapes: B images, P numbers of a task, C classes of the task that has most, D features, t rows of a table.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from e2vpt.multitask.layout import VectorLayout, num_rows
from e2vpt.multitask.values import TABLE_OF, TaskValues
from e2vpt.prompting.attention import TableByImage
from e2vpt.prompting.rows import Rows, applied

NO_CLASS = -1e30
"""Logit of a class that a task does not have; its probability is 0."""
_ROWS_OF, _WEIGHT, _BIAS = "rows.", "head.weight", "head.bias"


class TasksGraph(nn.Module):
    """A shared backbone and the heads of its tasks, as one function of images and vectors.

    Args:
        model, rows: the backbone, and where it finds what differs by image; taken.
        own: its own values, by name.
        tasks: those that the vectors have to have room for.
    """

    def __init__(
        self, model: nn.Module, rows: Rows, own: Mapping[str, Tensor], tasks: Mapping[str, TaskValues]
    ) -> None:
        super().__init__()
        self.model = model
        self._rows, self._own = rows, own
        room = VectorLayout({})
        for task in tasks.values():
            room = room.joined(VectorLayout.of(task.by_name))
        self._blocks = sorted(
            int(name.removeprefix(TABLE_OF)) for name in room.shapes if name.startswith(TABLE_OF)
        )
        heads = [task.head[0] for task in tasks.values()]
        self.num_classes = max(map(len, heads))
        counts = {f"{_ROWS_OF}{block}": (1,) for block in self._blocks}
        head = {_WEIGHT: (self.num_classes, heads[0].shape[1]), _BIAS: (self.num_classes,)}
        self.layout = VectorLayout({**room.shapes, **counts, **head})
        self.vectors = {name: self._vector(task) for name, task in tasks.items()}

    def _vector(self, task: TaskValues) -> Tensor:
        """Everything a task brings, [P]."""
        weight, bias = task.head
        values = {**task.by_name, _WEIGHT: weight}
        values[_BIAS] = F.pad(bias, (0, self.num_classes - len(bias)), value=NO_CLASS)
        for block in self._blocks:
            values[f"{_ROWS_OF}{block}"] = torch.tensor([float(num_rows(task.by_name, block))])
        return self.layout.vector(values, self._own)

    def forward(self, images: Tensor, vectors: Tensor) -> Tensor:
        """Images [B, 3, h, w] and the vectors [B, P] of their tasks -> logits [B, C]."""
        values = self.layout.views(vectors, self.layout.shapes)
        weight_BCD, bias_BC = values.pop(_WEIGHT), values.pop(_BIAS)
        tables = {}
        for block in self._blocks:
            table, count_B1 = values.pop(f"{TABLE_OF}{block}"), values.pop(f"{_ROWS_OF}{block}")
            exists = torch.arange(table.shape[1], device=table.device) < count_B1
            tables[block] = TableByImage(table=table, exists=exists)
        with applied(self._rows, values, tables):
            features: Tensor = self.model(images)
        return (weight_BCD @ features.unsqueeze(-1)).squeeze(-1) + bias_BC
