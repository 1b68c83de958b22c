"""The parts of a report that come from a model's answers: classes, mistakes, calibration."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from e2vpt.data import Split
from e2vpt.errors import visible
from e2vpt.insight.reports.calibration import calibration_error, reliability
from e2vpt.insight.reports.charts import reliability_diagram
from e2vpt.insight.reports.confusion import heat_map
from e2vpt.insight.reports.measured import Measured
from e2vpt.insight.reports.mistakes import (
    Judged,
    confusion,
    judged,
    most_confused,
    most_doubtful,
    worst_mistakes,
)
from e2vpt.insight.reports.thumbnails import thumbnail

Part = dict[str, Any]
"""What a template fills in."""

SPLIT_WORDS = {"test": "test", "val": "validation", "train": "training", "all": ""}
_PICTURES = 18
_PAIRS = 15
_MANY_CLASSES, _WORST = 30, 15


def split_words(split: str, count: int) -> str:
    """`800 test images`."""
    return f"{count:,} {SPLIT_WORDS.get(split, split)} images".replace("  ", " ")


def classes_part(measured: Measured, names: Sequence[str], counts: Mapping[str, Counter[int]]) -> Part:
    """Confusion matrix, most confused pairs, and a row for each class with its images by split (`counts`).

    Where there are many classes, also the least recognised ones.
    """
    table = confusion(measured)
    pairs = [
        {"truth": names[p.truth], "said": names[p.said], "count": p.count, "share": f"{p.share:.0%}"}
        for p in most_confused(table, _PAIRS)
    ]
    rows = [_class_row(number, name, table, counts) for number, name in enumerate(names)]
    ranked = sorted((row for row in rows if row["share"] is not None), key=lambda row: row["share"])
    return {
        "heat": heat_map(table, names),
        "pairs": pairs,
        "classes": rows,
        "worst": ranked[:_WORST] if len(rows) > _MANY_CLASSES else [],
        "splits": list(counts),
    }


def _class_row(number: int, name: str, table: Tensor, counts: Mapping[str, Counter[int]]) -> Part:
    right, images, said = (
        int(table[number, number]),
        int(table[number].sum()),
        int(table[:, number].sum()),
    )
    return {
        "number": number + 1,
        "name": name,
        "counts": [split[number] for split in counts.values()],
        "accuracy": f"{right / images:.1%}" if images else "-",
        "share": right / images if images else None,
        "precision": f"{right / said:.1%}" if said else "-",
    }


def pictures_part(measured: Measured, names: Sequence[str]) -> Part:
    """The surest mistakes and the most doubtful images, with thumbnails."""
    images = judged(measured)
    drawn: dict[int, str] = {}
    files = [visible(image.name) for image in measured.images.images]
    shared = _common_folder(files)

    def card(j: Judged) -> Part:
        source = measured.images.images[j.index]
        if j.index not in drawn:
            drawn[j.index] = thumbnail(source)
        return {
            "src": drawn[j.index],
            "file": files[j.index].removeprefix(shared).lstrip("/"),
            "wrong": j.truth != j.said,
            "truth": names[j.truth],
            "p_truth": f"{j.p_truth:.1%}",
            "said": names[j.said],
            "p_said": f"{j.p_said:.1%}",
            "second": names[j.second],
            "p_second": f"{j.p_second:.1%}",
        }

    return {
        "folder": shared,
        "num_wrong": sum(j.truth != j.said for j in images),
        "worst": [card(j) for j in worst_mistakes(images, _PICTURES)],
        "doubtful": [card(j) for j in most_doubtful(images, _PICTURES)],
    }


def _common_folder(files: Sequence[str]) -> str:
    """The folder that all files lie below; "" where there is none."""
    try:
        return os.path.commonpath([os.path.dirname(file) for file in files])
    except ValueError:  # some with a path from the root, others without
        return ""


def calibration_part(measured: Measured, temperature: float | None) -> Part:
    """Calibration error and reliability, as it is and with a temperature."""
    labels = measured.labels
    states = [("as trained", measured.probabilities)]
    if temperature is not None:
        states.append((f"with temperature {temperature:.2f}", (measured.logits / temperature).softmax(1)))
    diagrams = []
    for name, probabilities in states:
        bins = reliability(probabilities, labels)
        error = calibration_error(bins)
        confidence = float(probabilities.max(1).values.mean())
        title = f"Reliability diagram {name}: calibration error {error:.1%}"
        diagrams.append(
            {
                "name": name,
                "error": f"{error:.1%}",
                "confidence": f"{confidence:.1%}",
                "svg": reliability_diagram(title, bins),
                "bins": [b for b in bins if b.count],
            }
        )
    return {"diagrams": diagrams, "temperature": temperature, "is_val": measured.split == "val"}


def label_counts(splits: Mapping[str, Split]) -> dict[str, Counter[int]]:
    """Images of each class by split."""
    return {name: Counter(split.labels) for name, split in splits.items()}
