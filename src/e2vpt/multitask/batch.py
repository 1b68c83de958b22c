"""What a batch of different tasks computes with, of the vectors of its tasks.

Shapes: B images, P numbers of a task, t rows of a table, H heads, d head width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from e2vpt.multitask.layout import VectorLayout, num_rows
from e2vpt.multitask.values import TABLE_OF, TaskValues
from e2vpt.prompting.attention import AttentionWithPrompts, TableByImage
from e2vpt.prompting.rows import RowConv, RowLinear, RowNorm
from e2vpt.prompting.token_path import biases_beside


def of_batch(
    layout: VectorLayout, vectors_BP: Tensor, tasks: Sequence[TaskValues]
) -> tuple[dict[str, Tensor], dict[int, TableByImage]]:
    """What the backbone is to compute with: values that some task of the batch brings, and tables of blocks.

    Of a batch of one task, whose vector is alone, nothing has a batch dimension.
    """
    views = layout.views(vectors_BP, {name for task in tasks for name in task.by_name})
    if len(tasks) == 1:
        views = {name: view[0] for name, view in views.items()}
    values = {name: view for name, view in views.items() if not name.startswith(TABLE_OF)}
    counts = {
        index: [num_rows(task.by_name, index) for task in tasks]
        for index in (int(name.removeprefix(TABLE_OF)) for name in views.keys() - values.keys())
    }
    uneven = {index: rows for index, rows in counts.items() if min(rows) < max(rows)}
    # One copy to the device for all blocks.
    on_device = torch.tensor(list(uneven.values()), device=vectors_BP.device)
    lengths_B1 = {index: rows.unsqueeze(1) for index, rows in zip(uneven, on_device, strict=True)}
    tables = {}
    for index, rows in counts.items():
        most = max(rows)
        table = views[f"{TABLE_OF}{index}"].narrow(-4, 0, most)
        exists = torch.arange(most, device=table.device) < lengths_B1[index] if index in uneven else None
        tables[index] = TableByImage(table=table, exists=exists)
    return values, tables


def own_values(model: nn.Module) -> dict[str, Tensor]:
    """The backbone's values that may differ by row, by name; output scales are ones."""
    kinds = {RowLinear: ("bias",), RowNorm: ("weight", "bias"), RowConv: ("bias",)}
    own: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        for name in kinds.get(type(module), ()):
            parameter = getattr(module, name)
            if parameter is not None:
                own[f"{path}.{name}"] = parameter
        if isinstance(module, AttentionWithPrompts) and (bias := biases_beside(module)) is not None:
            own[f"{path}.qkv.bias"] = bias
        if isinstance(module, RowLinear):
            own[f"{path}.scale"] = torch.ones(module.out_features)
    return own
