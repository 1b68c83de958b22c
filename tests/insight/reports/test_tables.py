"""A row for each image, as spreadsheets take it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch

from e2vpt.data import ImageInMemory, Split
from e2vpt.insight.reports.measured import Measured
from e2vpt.insight.reports.tables import write_answers


def write(path: Path, **how: object) -> str:
    images = [
        ImageInMemory(name=name, pixels=np.zeros((8, 8, 3), np.uint8)) for name in ("=1+1.png", "b.png")
    ]
    answers = Measured(
        split="test",
        images=Split(images=tuple(images), labels=(0, 1)),
        logits=torch.tensor([[2.0, 0.0], [1.0, 0.0]], dtype=torch.float64),
    )
    write_answers(path, answers, ["@SUM(A1)", "größe"], **how)  # type: ignore[arg-type]
    return path.read_text(encoding="utf-8")


def test_every_image_has_truth_answer_and_scores(tmp_path: Path) -> None:
    text = write(tmp_path / "a.csv")
    rows = list(csv.DictReader(text.splitlines()))
    assert [(r["file"], r["truth"], r["answer"], r["right"]) for r in rows] == [
        ("=1+1.png", "@SUM(A1)", "@SUM(A1)", "yes"),
        ("b.png", "größe", "@SUM(A1)", "no"),
    ]
    assert float(rows[1]["score"]) + float(rows[1]["score of truth"]) == 1


def test_for_spreadsheets_nothing_is_a_formula(tmp_path: Path) -> None:
    text = write(tmp_path / "a.csv", separator=";", for_spreadsheets=True)
    assert text.startswith("\ufefffile;truth")
    cells = [cell for row in csv.reader(text.splitlines()[1:], delimiter=";") for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    assert "'=1+1.png" in cells and "'@SUM(A1)" in cells and "größe" in cells
