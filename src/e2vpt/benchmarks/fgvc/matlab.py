"""MATLAB files (.mat): whole numbers and texts in arrays, cells and structures."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from e2vpt.benchmarks.fgvc.matlab_format import parse_mat
from e2vpt.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MatFile:
    """The variables of a .mat file, as `parse_mat` gives them; `where` is what messages call it."""

    where: str
    variables: Mapping[str, Any]


def read_mat(data: bytes, where: str) -> MatFile:
    """The content of a .mat file of version 5 to 7, compressed or not; safe on untrusted bytes.

    Raises:
        DataError: truncated, damaged, or of another version (7.3 is HDF5).
    """
    try:
        return MatFile(where=where, variables=parse_mat(data))
    except (ValueError, zlib.error) as error:
        raise DataError(
            f"{where} cannot be read as a MATLAB file ({len(data)} bytes): {error}. "
            "Download or unpack it again."
        ) from error


def mat_numbers(mat: MatFile, variable: str, field: str | None = None) -> list[int]:
    """Whole numbers of an array of any shape, or of one field of a structure array, in column order.

    Raises:
        DataError: no such variable or field, or an entry that is not one whole number.
    """
    return [
        _number(f"{_called(mat, variable, field)}, entry {place}", value)
        for place, value in enumerate(_entries(mat, variable, field), start=1)
    ]


def mat_texts(mat: MatFile, variable: str, field: str | None = None) -> list[str]:
    """Texts of a cell array, or of one field of a structure array, in column order.

    Raises:
        DataError: no such variable or field, or an entry that is not a text, or is empty.
    """
    return [
        _text(f"{_called(mat, variable, field)}, entry {place}", value)
        for place, value in enumerate(_entries(mat, variable, field), start=1)
    ]


def _called(mat: MatFile, variable: str, field: str | None) -> str:
    return f"{mat.where}: {variable}" if field is None else f"{mat.where}: {variable}.{field}"


def _entries(mat: MatFile, variable: str, field: str | None) -> list[Any]:
    if variable not in mat.variables:
        raise DataError(
            f"{mat.where} has no {variable!r}; found {', '.join(sorted(mat.variables)) or 'nothing'}. "
            "Is it whole, and the file of this data set?"
        )
    value = mat.variables[variable]
    if field is None:
        return list(value) if isinstance(value, (np.ndarray, list)) else [value]
    fields = value if isinstance(value, dict) else {}
    if field not in fields:
        raise DataError(
            f"{mat.where}: {variable} has no field {field!r}; found {', '.join(fields) or 'no fields'}. "
            "Is it the file of this data set?"
        )
    return list(fields[field])


def _number(where: str, value: Any) -> int:
    number = value.item() if isinstance(value, (np.ndarray, np.generic)) and value.size == 1 else None
    if isinstance(number, int) or (isinstance(number, float) and number.is_integer()):
        return int(number)
    raise DataError(f"{where} is {_shown(value)}; expected a whole number. Download or unpack it again.")


def _text(where: str, value: Any) -> str:
    if isinstance(value, str) and value.strip():
        return value
    raise DataError(f"{where} is {_shown(value)}; expected a text. Download or unpack it again.")


def _shown(value: Any) -> str:
    if value is None:
        return "complex, sparse or an object"
    return repr(value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value)[:80]
