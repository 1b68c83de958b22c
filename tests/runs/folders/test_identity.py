"""What tells one run from another: images by content, settings by what they change."""

from __future__ import annotations

from pathlib import Path

from support.tasks_for_tests import write_task

import e2vpt
from e2vpt.runs.folders.identity import changed_images, changed_settings, image_rows


def test_rows_say_split_class_and_content(tmp_path: Path) -> None:
    write_task(tmp_path / "data", train=2, val=1, test=1)
    rows = image_rows(e2vpt.load_task(tmp_path / "data"))
    assert [(row["split"], row["class"]) for row in rows[:3]] == [
        ("train", "bars"),
        ("train", "bars"),
        ("train", "disc"),
    ]
    assert len(rows) == 12 and len({row["digest"] for row in rows}) == 12


def test_a_folder_by_another_name_is_the_same(tmp_path: Path) -> None:
    before = image_rows(e2vpt.load_task(write_task(tmp_path / "data", train=2, val=1, test=1)))
    after = image_rows(e2vpt.load_task((tmp_path / "data").rename(tmp_path / "moved")))
    assert changed_images(before, after) == ""


def test_changes_are_named(tmp_path: Path) -> None:
    data = write_task(tmp_path / "data", train=3, val=1, test=1)
    before = image_rows(e2vpt.load_task(data))
    first, second = data / "train/bars/00.png", data / "train/bars/01.png"
    first.write_bytes(second.read_bytes())
    assert "1 replaced (" in changed_images(before, image_rows(e2vpt.load_task(data)))
    second.unlink()
    (data / "train/ring/00.png").rename(data / "train/ring/99.png")
    words = changed_images(before, image_rows(e2vpt.load_task(data)))
    assert "1 replaced (" in words and "2 gone (" in words and "1 new (" in words
    assert "train/bars/00.png" in words


def test_another_order_is_another_run() -> None:
    rows = [{"split": "train", "class": "a", "file": f"{i}.png", "digest": str(i)} for i in range(3)]
    assert changed_images(rows, rows[::-1]) == "images: in another order"


def test_settings_that_change_the_result() -> None:
    saved = {"backbone": "demo", "data": {"image_size": 96, "workers": 0}, "weights": "a", "source": "x"}
    now = {"backbone": "demo", "data": {"image_size": 64, "workers": 4}, "weights": "b", "source": "y"}
    assert changed_settings(saved, now) == ["image_size 96, now 64"]
    assert changed_settings(saved, saved | {"added_later": 1}) == []
    assert changed_settings({"a": {"counts": [1, 2]}}, {"a": {"counts": (1, 2)}}) == []
