"""A CSV file that names images: columns `path`, `label`, optionally `split` and `class`."""

from __future__ import annotations

import codecs
import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

from e2vpt.data.decoding.images import ImageFile, ImageSource
from e2vpt.data.sources.splits import LabelledData, SplitName, one_spelling, split_of_cell
from e2vpt.errors import SHOWN, DataError, in_lines, visible

_LONGEST_HEADER = 2**16


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    line: int
    path: str
    label: str
    split: str | None
    class_name: str


def read_table(path: Path) -> LabelledData:
    """The labelled images of a CSV file.

    The first line names the columns; commas, semicolons or tabs separate cells; the encoding is UTF-8, or
    UTF-16 with its mark. `path` is relative to the
    CSV file's folder. `split` is train, val (valid, validation) or test; without that column the images are
    split for training. `class` names what `label` numbers; without it the label is the name. Classes are in
    order of their labels, numerically where all are numbers. Other columns are ignored.

    Raises:
        DataError: naming bad lines: a missing file, an empty label, an unknown split, a file named
            twice, a label with two class names.
    """
    rows = list(_rows(path))
    problems = [*_cell_problems(path, rows), *_repeats(rows), *_class_problems(rows)]
    if problems:
        listed = in_lines([f"line {line}: {text}" for line, text in sorted(problems)])
        raise DataError(
            f"{path}: {len(problems)} bad line(s):\n{listed}\nCorrect them, then run the same command again."
        )
    if not rows:
        raise DataError(f"{path} has a header but no rows. Add one row per image.")
    found: dict[SplitName | Literal["all"], list[tuple[ImageSource, str]]] = {}
    for row in rows:
        which = "all" if row.split is None else split_of_cell(row.split)
        assert which is not None
        image = ImageFile(name=visible(os.path.join(path.parent, row.path)), path=path.parent / row.path)
        found.setdefault(which, []).append((image, row.class_name))
    return LabelledData(name=path.stem, classes=tuple(_classes(rows)), found=found)


def _rows(path: Path) -> Iterator[_Row]:
    try:
        with path.open(encoding=_encoding(path), newline="") as file:
            separator, skipped = _separator(file)
            reader = csv.DictReader(file, skipinitialspace=True, strict=True, delimiter=separator)
            columns = _columns(path, reader)
            for cells in reader:
                if None in cells:
                    raise DataError(
                        f"{path}, line {reader.line_num + skipped}: more cells than columns; "
                        f"quote cells that hold a {separator!r}."
                    )
                if not any(cell.strip() for cell in cells.values() if cell):
                    continue  # spreadsheets end a table with rows of separators alone
                value = {
                    name: one_spelling((cells[column] or "").strip())
                    if name != "path"
                    else (cells[column] or "").strip()
                    for name, column in columns.items()
                }
                split = value.get("split") if "split" in columns else None
                class_name = value["class"] if "class" in columns else value["label"]
                yield _Row(
                    line=reader.line_num + skipped,
                    path=value["path"],
                    label=value["label"],
                    split=split,
                    class_name=class_name,
                )
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8."
        ) from error
    except (csv.Error, OSError) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}.") from error


def _encoding(path: Path) -> str:
    """UTF-8, unless a mark says UTF-16: spreadsheets write that as "Unicode text"."""
    with path.open("rb") as file:
        is_wide = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return "utf-16" if is_wide else "utf-8-sig"


def _separator(file: TextIO) -> tuple[str, int]:
    """What separates the cells, by the names of the columns, and how many lines are none of the table."""
    first = file.readline(_LONGEST_HEADER).rstrip("\r\n")
    if first.lower().startswith("sep=") and len(first) == 5:  # a word to Excel
        return first[4], 1
    file.seek(0)
    for separator in ",;\t":
        if {"path", "label"} <= {cell.strip(' "').lower() for cell in first.split(separator)}:
            return separator, 0
    return ",", 0


def _columns(path: Path, reader: csv.DictReader[str]) -> dict[str, str]:
    """The file's own spelling of each column we use."""
    header = list(reader.fieldnames or [])
    columns = {column.strip().lower(): column for column in header}
    for name in ("path", "label", "split", "class"):
        count = sum(column.strip().lower() == name for column in header)
        if count > 1:
            raise DataError(f"{path}: the first line has {count} columns {name}. Rename all but one.")
    missing = [name for name in ("path", "label") if name not in columns]
    if missing:
        raise DataError(
            f"{path}: the first line has no column {' and no column '.join(missing)}; found "
            f"{', '.join(map(repr, header[:SHOWN])) or 'nothing'}. Expected path,label[,split]."
        )
    return {name: columns[name] for name in ("path", "label", "split", "class") if name in columns}


def _cell_problems(path: Path, rows: list[_Row]) -> Iterator[tuple[int, str]]:
    for row in rows:
        if not row.path:
            yield row.line, "the path is empty"
        elif not _is_file(path.parent / row.path):
            yield row.line, f"no such file: {str(path.parent / row.path)[:300]}"
        if not row.label:
            yield row.line, "the label is empty"
        elif not row.class_name:
            yield row.line, "the class is empty"
        if row.split is not None and split_of_cell(row.split) is None:
            yield row.line, f"split is {row.split!r}; expected train, val or test"


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, for one
        return False


def _repeats(rows: list[_Row]) -> Iterator[tuple[int, str]]:
    first: dict[str, _Row] = {}
    for row in rows:
        before = first.setdefault(os.path.normpath(row.path), row)
        if before is row or not row.path:
            continue
        here = f"{row.path[:300]} was already on line {before.line}"
        if before.label != row.label:
            yield row.line, f"{here}, there with label {before.label!r}, here {row.label!r}"
        elif before.split != row.split:
            yield row.line, f"{here}, there in split {before.split!r}, here {row.split!r}"
        else:
            yield row.line, here


def _class_problems(rows: list[_Row]) -> Iterator[tuple[int, str]]:
    name_of: dict[str, str] = {}
    for row in rows:
        name = name_of.setdefault(row.label, row.class_name)
        if name != row.class_name:
            yield row.line, f"label {row.label!r} is class {row.class_name!r} here and {name!r} above"


def _classes(rows: list[_Row]) -> list[str]:
    name_of = {row.label: row.class_name for row in rows}
    numbers = all(label.isdecimal() for label in name_of)
    return [
        name_of[label] for label in sorted(name_of, key=lambda label: (int(label) if numbers else 0, label))
    ]
