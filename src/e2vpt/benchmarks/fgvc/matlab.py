"""MATLAB files (.mat), read by SciPy: whole numbers and texts in arrays, cells and structures."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from e2vpt.benchmarks.fgvc.lists import read_file
from e2vpt.data.decoding.images import ImageFile
from e2vpt.errors import DataError, needs

MAX_MAT_BYTES = 16 << 20
"""The largest official list has less than 1 MiB."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MatFile:
    """The variables of a .mat file, as `scipy.io.loadmat` gives them; `where` is what messages call it."""

    where: str
    variables: Mapping[str, Any]


def read_mat(file: ImageFile) -> MatFile:
    """The content of a .mat file of version 4 to 7, compressed or not.

    SciPy's reader is for files of known origin: crafted ones can end the process.

    Raises:
        DataError: truncated, damaged, larger than `MAX_MAT_BYTES`, or of another version (7.3 is HDF5).
        MissingExtra: SciPy is not installed.
    """
    with needs("bench", "MATLAB files are read by SciPy"):
        from scipy.io import loadmat
    data = read_file(file)
    if len(data) > MAX_MAT_BYTES:
        raise DataError(f"{file.name} has {len(data)} bytes; expected at most {MAX_MAT_BYTES}. Is it a list?")
    try:
        return MatFile(where=file.name, variables=loadmat(io.BytesIO(data)))
    except Exception as error:  # SciPy raises almost anything on broken bytes.
        raise DataError(
            f"{file.name} cannot be read as a MATLAB file ({len(data)} bytes): {error}. "
            "Download or unpack it again."
        ) from error


def mat_numbers(mat: MatFile, variable: str, field: str | None = None) -> list[int]:
    """Whole numbers of an array of any shape, or of one field of a structure array, in column order.

    Raises:
        DataError: no such variable or field, or an entry that is not one whole number.
    """
    return [int(entry) for entry in _entries(mat, variable, field, "a whole number", _is_whole)]


def mat_texts(mat: MatFile, variable: str, field: str | None = None) -> list[str]:
    """Texts of a cell array, or of one field of a structure array, in column order.

    Raises:
        DataError: no such variable or field, or an entry that is not a text, or is empty.
    """
    return _entries(mat, variable, field, "a text", _is_text)


def _entries(
    mat: MatFile, variable: str, field: str | None, expected: str, fits: Callable[[Any], bool]
) -> list[Any]:
    found = [name for name in mat.variables if not name.startswith("__")]
    if variable not in found:
        raise DataError(
            f"{mat.where} has no {variable!r}; found {', '.join(sorted(found)) or 'nothing'}. "
            "Is it whole, and the file of this data set?"
        )
    value = np.asarray(mat.variables[variable])
    if field is not None:
        fields = value.dtype.names or ()
        if field not in fields:
            raise DataError(
                f"{mat.where}: {variable} has no field {field!r}; found {', '.join(fields) or 'no fields'}. "
                "Is it the file of this data set?"
            )
        value = value[field]
    # A number or a text in a cell is an array of one entry.
    entries = [
        entry.item() if isinstance(entry, np.ndarray) and entry.size == 1 else entry
        for entry in value.ravel(order="F").tolist()
    ]
    for place, entry in enumerate(entries, start=1):
        if not fits(entry):
            called = variable if field is None else f"{variable}.{field}"
            raise DataError(
                f"{mat.where}: {called}, entry {place} is {str(entry)[:80]!r}; expected {expected}. "
                "Download or unpack it again."
            )
    return entries


def _is_whole(entry: Any) -> bool:
    return isinstance(entry, (int, float)) and float(entry).is_integer()


def _is_text(entry: Any) -> bool:
    return isinstance(entry, str) and bool(entry.strip())
