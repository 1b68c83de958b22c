"""Parts of a report that come from answers: figures of classes, pictures, calibration."""

from __future__ import annotations

from collections import Counter

import pytest
from support.answers_for_tests import answers

from e2vpt.insight.reports.answers import (
    calibration_part,
    classes_part,
    label_counts,
    pictures_part,
    split_words,
)

PROBABILITIES = [[0.9, 0.05, 0.05], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.6, 0.3]]
LABELS = (0, 1, 1, 1)
NAMES = ("a", "b", "c")


def test_every_class_has_accuracy_precision_and_counts() -> None:
    counts = {"train": Counter({0: 5, 2: 1}), "test": Counter({0: 1, 1: 3})}
    part = classes_part(answers(PROBABILITIES, LABELS), NAMES, counts)
    rows = [(r["number"], r["name"], r["accuracy"], r["precision"], r["counts"]) for r in part["classes"]]
    assert rows == [
        (1, "a", "100.0%", "50.0%", [5, 1]),
        (2, "b", "66.7%", "100.0%", [0, 3]),
        (3, "c", "-", "-", [1, 0]),
    ]
    assert part["pairs"] == [{"truth": "b", "said": "a", "count": 1, "share": "33%"}]
    assert part["splits"] == ["train", "test"] and part["heat"].startswith("<svg")


def test_of_many_classes_the_least_recognised_come_first() -> None:
    wrong = {7, 23}
    rows = [[0.9 if j == (0 if i in wrong else i) else 0.001 for j in range(31)] for i in range(31)]
    names = [f"c{i}" for i in range(31)]
    part = classes_part(answers(rows, range(31)), names, {})
    assert len(part["classes"]) == 31 and len(part["worst"]) == 15
    assert [row["name"] for row in part["worst"][:3]] == ["c7", "c23", "c0"]
    few = classes_part(answers([row[:30] for row in rows[:30]], range(30)), names[:30], {})
    assert few["worst"] == []


@pytest.mark.parametrize(
    ("files", "folder", "shown"),
    [
        (("/data/test/a/0.png", "/data/test/b/1.png"), "/data/test", "b/1.png"),
        (("a/0.png", "b/1.png"), "", "b/1.png"),
        (("/data/0.png", "b/1.png"), "", "b/1.png"),
    ],
)
def test_pictures_are_named_below_their_common_folder(
    files: tuple[str, str], folder: str, shown: str
) -> None:
    part = pictures_part(answers([[0.9, 0.1], [0.8, 0.2]], (0, 1), names=files), NAMES)
    assert part["folder"] == folder and part["num_wrong"] == 1
    (worst,) = part["worst"]
    assert (worst["file"], worst["truth"], worst["said"], worst["p_said"]) == (shown, "b", "a", "80.0%")
    assert part["doubtful"][0]["file"] == shown
    assert worst["src"].startswith("data:image/jpeg;base64,")


def test_at_most_eighteen_pictures_of_each_kind() -> None:
    part = pictures_part(answers([[0.9, 0.1]] * 30, (1,) * 30), NAMES)
    assert len(part["worst"]) == len(part["doubtful"]) == 18 and part["num_wrong"] == 30


def test_calibration_is_shown_as_it_is_and_with_a_temperature() -> None:
    found = answers([[0.9, 0.1]] * 4, (0, 0, 0, 1))
    part = calibration_part(found, None)
    assert [(d["error"], d["confidence"]) for d in part["diagrams"]] == [("15.0%", "90.0%")]
    assert not part["is_val"]
    part = calibration_part(answers([[0.9, 0.1]] * 4, (0, 0, 0, 1), split="val"), 2.0)
    assert [d["name"] for d in part["diagrams"]] == ["as trained", "with temperature 2.00"]
    assert part["diagrams"][1]["error"] == "0.0%", "3 to 1 is what the square root of 9 to 1 says"
    assert part["is_val"]


def test_splits_in_words() -> None:
    assert [split_words("test", 1200), split_words("all", 3)] == ["1,200 test images", "3 images"]
    assert label_counts({"test": answers([[1.0]] * 2, (0, 0)).images}) == {"test": Counter({0: 2})}
