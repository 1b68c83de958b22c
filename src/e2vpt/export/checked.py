"""Exported files that were computed with, and found to give the model's logits, before they are kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.export import ExportedProgram

from e2vpt.errors import ConfigError, ExportError
from e2vpt.export.formats import EXPORT_FORMATS, ExportFormat
from e2vpt.export.onnx_files import check_onnx, onnx_bytes, opened_onnx
from e2vpt.export.torch_files import opened_torch, torch_bytes
from e2vpt.files.atomic import write_atomic
from e2vpt.files.paths import check_file_place

TOLERANCE = 1e-4
"""Largest difference of a logit."""
BATCHES = (1, 7)
"""Images that a file is tried with."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Reference:
    """Inputs by name, all of B images, and the logits [B, C] that the model itself gives."""

    inputs: Mapping[str, Tensor]
    logits: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """A file that was written.

    Attributes:
        path: where.
        bytes: its size.
        difference: the largest difference between a logit of the file and of the model, of those compared.
    """

    path: Path
    bytes: int
    difference: float


def check_target(path: Path, form: ExportFormat, read: Iterable[Path] = ()) -> None:
    """See, before anything slow begins, that a file can be written, and is none of those that are read.

    Raises:
        ConfigError: an unknown format.
        MissingExtra: ONNX without its packages.
        RunError: not there.
    """
    if form not in EXPORT_FORMATS:
        raise ConfigError(f"The format is {form!r}; expected {' or '.join(EXPORT_FORMATS)}.")
    if form == "onnx":
        check_onnx()
    check_file_place(path, read)


def write_checked(
    path: Path,
    program: ExportedProgram,
    form: ExportFormat,
    notes: Mapping[str, Any],
    references: Sequence[Reference],
) -> Exported:
    """Write a graph to a file, if the file computes what it should.

    Raises:
        ExportError: it does not, or cannot be made.
        RunError: it cannot be written.
    """
    names = list(references[0].inputs)
    content = onnx_bytes(program, names, notes) if form == "onnx" else torch_bytes(program, notes)
    run = opened_onnx(content) if form == "onnx" else opened_torch(content)
    difference = checked_difference(path, ((run(known.inputs), known.logits) for known in references))
    write_atomic(path, content)
    return Exported(path=path, bytes=len(content), difference=difference)


def checked_difference(path: Path, pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """The largest difference between logits found and expected, by pairs of batches [B, C].

    Raises:
        ExportError: it is too large for the file at `path` to be kept.
    """
    difference = 0.0
    for found, expected in pairs:
        same_shape = found.shape == expected.shape
        largest = float((found - expected).abs().max()) if same_shape else float("inf")
        # Also what is no number.
        if not largest <= TOLERANCE:
            raise ExportError(
                f"{path} was not written: its logits differ from the model's by up to {largest:.1e}; at most "
                f"{TOLERANCE:g} is allowed. Try another format, or another version of torch."
            )
        difference = max(difference, largest)
    return difference
