"""The forms that a model is exported to."""

from __future__ import annotations

from typing import Literal, get_args

ExportFormat = Literal["onnx", "torch-export"]
EXPORT_FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
