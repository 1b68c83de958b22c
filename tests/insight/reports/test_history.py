"""Parts of a report that come from the run: curves, a hint at uneven classes."""

from __future__ import annotations

import pytest

from e2vpt.insight.reports.history import balance_hint, curves
from e2vpt.insight.reports.record import TrainingLog

ROWS = tuple(
    {"epoch": e, "lr": 0.1, "train_loss": 1 / e, "train_accuracy": 0.5, "val_loss": 2 / e, "val_accuracy": a}
    for e, a in ((1, 0.25), (2, 0.75), (3, 0.5))
)


def test_curves_have_a_chart_and_a_row_for_every_epoch() -> None:
    part = curves(TrainingLog(name="all prompts", rows=ROWS, best=2))
    assert part["charts"].keys() == {"accuracy", "loss"}
    assert all(svg.count("<polyline") == 2 for svg in part["charts"].values())
    assert "epoch 2, kept" in part["charts"]["accuracy"]
    assert part["heads"] == ["training loss", "training accuracy", "validation loss", "validation accuracy"]
    assert part["rows"][1] == ["2", "0.5000", "50.0%", "1.0000", "75.0%"]


def test_without_validation_images_there_is_one_line() -> None:
    rows = tuple({k: v for k, v in row.items() if not k.startswith("val_")} for row in ROWS)
    part = curves(TrainingLog(name="the only one", rows=rows, best=3))
    assert all(svg.count("<polyline") == 1 for svg in part["charts"].values())


@pytest.mark.parametrize(
    ("counts", "named"),
    [({}, False), ({0: 5, 1: 14}, False), ({0: 5, 1: 15}, True), ({0: 7}, False)],
)
def test_uneven_classes_are_named(counts: dict[int, int], named: bool) -> None:
    hint = balance_hint(counts, ["rare", "common"])
    assert ("common has 15 training images, rare has 5" in hint) == named == bool(hint)
