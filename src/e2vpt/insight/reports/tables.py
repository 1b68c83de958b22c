"""Answers as a table for spreadsheets, one row for each image."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from e2vpt.errors import visible
from e2vpt.files.atomic import spreadsheet_text, write_atomic
from e2vpt.insight.reports.measured import Measured
from e2vpt.insight.reports.mistakes import judged

_COLUMNS = ("file", "truth", "answer", "right", "score", "score of truth", "second", "score of second")


def write_answers(
    path: Path,
    measured: Measured,
    classes: Sequence[str],
    *,
    separator: str = ",",
    for_spreadsheets: bool = False,
) -> None:
    """Write file, truth, answer and scores of every image.

    With `for_spreadsheets` the file begins with a byte order mark, and no text is taken for a formula.
    """
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerow(_COLUMNS)

    def cell(value: str) -> str:
        return spreadsheet_text(visible(value)) if for_spreadsheets else visible(value)

    for j in judged(measured):
        names = [cell(classes[number]) for number in (j.truth, j.said, j.second)]
        scores = [f"{score:.6f}" for score in (j.p_said, j.p_truth, j.p_second)]
        right = "yes" if j.truth == j.said else "no"
        file = cell(measured.images.images[j.index].name)
        writer.writerow([file, names[0], names[1], right, scores[0], scores[1], names[2], scores[2]])
    write_atomic(path, (("\ufeff" if for_spreadsheets else "") + text.getvalue()).encode())
