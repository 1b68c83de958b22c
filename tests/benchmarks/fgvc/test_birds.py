"""Lists of CUB-200-2011 and NABirds that disagree or do not parse are refused by file and line."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fgvc_for_tests import write_cub, write_nabirds

from e2vpt.benchmarks.fgvc.birds import read_cub, read_nabirds
from e2vpt.data.sources.listing import list_folder
from e2vpt.errors import DataError


def test_cub(tmp_path: Path) -> None:
    write_cub(tmp_path)
    lists = read_cub(list_folder(tmp_path))
    assert lists.class_names == {
        1: "Black footed Albatross",
        2: "Laysan Albatross",
        3: "Sooty Albatross",
    }
    first, last = lists.images[0], lists.images[-1]
    assert first.path == "images/001.Black_footed_Albatross/Black_footed_Albatross_0000_0.jpg"
    assert (first.class_id, first.split, last.class_id, last.split) == (1, "train", 3, "test")


def test_nabirds_keeps_the_classes_that_have_images(tmp_path: Path) -> None:
    write_nabirds(tmp_path)
    lists = read_nabirds(list_folder(tmp_path))
    assert list(lists.class_names.items()) == [
        (295, "Snow Goose (295)"),
        (296, "Snow Goose (296)"),
        (817, "Oak Titmouse"),
    ]
    assert lists.images[-1].path == "images/0817/0002000b21dc4d0cbfe14cae3c85c829.jpg"
    assert (lists.images[-1].class_id, lists.images[-1].split) == (817, "test")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "image_class_labels.txt",
            "\n1 1\n",
            "\n1 7\n",
            r"labels\.txt, line 36: '1 7'; expected the id of an",
        ),
        ("image_class_labels.txt", "\n1 1\n", "\n1 one\n", r"labels\.txt, line 36: '1 one'; expected"),
        ("image_class_labels.txt", "\n1 1\n", "\n1\n", r"labels\.txt, line 36: '1'; expected"),
        (
            "image_class_labels.txt",
            "\n1 1\n",
            "\n",
            r"images\.txt has 36 images, image_class_labels\.txt has 35; ids in only one of them:\n  1\n",
        ),
        ("image_class_labels.txt", "\n1 1\n", "\n99 1\n", r"has 36; ids in only one of them:\n  1\n  99\n"),
        ("train_test_split.txt", "36 0\n", "36 2\n", r"split\.txt, line 36: '36 2'; expected .* 1 \(train\)"),
        ("train_test_split.txt", "36 0\n", "", r"images, train_test_split\.txt has 35; .*:\n  36\n"),
        ("train_test_split.txt", "36 0\n", "35 0\n", r"split\.txt, line 36: 35 was already there"),
        (
            "classes.txt",
            "2 002",
            "002",
            r"classes\.txt, line 2: '002\.Laysan_Albatross'; expected the number",
        ),
        ("images.txt", "36 003", "37 003", r"ids in only one of them:\n  36\n  37\n"),
        ("images.txt", "_0000_0.jpg", "_0001_7.jpg", r"the lists name twice:\n  images/001\.Black"),
    ],
)
def test_disagreements(tmp_path: Path, file: str, old: str, new: str, message: str) -> None:
    write_cub(tmp_path)
    text = (tmp_path / file).read_text()
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        read_cub(list_folder(tmp_path))


def test_nabirds_with_an_unknown_class(tmp_path: Path) -> None:
    write_nabirds(tmp_path)
    classes = (tmp_path / "classes.txt").read_text()
    (tmp_path / "classes.txt").write_text(classes.replace("817 Oak Titmouse\n", ""))
    with pytest.raises(
        DataError, match=r"image_class_labels\.txt, line 1: '.* 817'; expected .* classes\.txt"
    ):
        read_nabirds(list_folder(tmp_path))
