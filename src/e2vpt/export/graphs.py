"""What is traced: images, or their pixels, to logits.

Shapes: B images, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from e2vpt.data.preprocess import Preprocessing
from e2vpt.errors import ExportError
from e2vpt.prompting.folding import folded

EXAMPLES = 2
"""Images that a graph is traced with; with one, torch would keep the batch at one."""


class FromPixels(nn.Module):
    """A model behind the normalisation of its images."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(preprocessing.std).view(3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """RGB pixels [B, h, w, 3], uint8 -> logits [B, C]."""
        images = pixels.permute(0, 3, 1, 2).float() / 255
        logits: Tensor = self.model((images - self.mean) / self.std)
        return logits


@torch.no_grad()
def trace(model: nn.Module, inputs: Sequence[Tensor]) -> ExportedProgram:
    """The graph of a model in eval mode for any number of images; tables of prompts are constants of it.

    `inputs` are those of `EXAMPLES` images.

    Raises:
        ExportError: torch cannot trace it.
    """
    batch = Dim("batch")
    with folded(model):
        model(*inputs)  # computes the tables, which would be part of the graph otherwise
        try:
            program = torch.export.export(
                model, tuple(inputs), dynamic_shapes=[{0: batch} for _ in inputs], strict=False
            )
        except Exception as error:  # whatever the tracer meets
            raise ExportError(f"torch.export cannot trace this {type(model).__name__}: {error}") from error
    for node in program.graph.nodes:
        # Lines of source files, and where they lie on this machine.
        node.meta.pop("stack_trace", None)
    return program
