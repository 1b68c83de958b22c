"""A graph as a file of torch.export, and that file computed by torch."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

NOTES = "e2vpt.json"
"""What the file's extra file with the metadata is called."""


def torch_bytes(program: ExportedProgram, notes: Mapping[str, Any]) -> bytes:
    """The file, with its metadata as JSON under `NOTES`."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={NOTES: json.dumps(notes)})
    return buffer.getvalue()


@torch.no_grad()
def run_torch(content: bytes, inputs: Mapping[str, Tensor]) -> Tensor:
    """What a file computes; one of our own making, as torch.export's files may hold code."""
    module = torch.export.load(io.BytesIO(content)).module()
    logits: Tensor = module(*inputs.values())
    return logits
