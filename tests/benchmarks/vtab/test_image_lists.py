"""Image lists become splits; every bad line is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from support import tfds_for_tests as written

from e2vpt.benchmarks.vtab.image_lists import find_lists, has_lists, list_folders, read_image_lists
from e2vpt.benchmarks.vtab.tasks import VTAB
from e2vpt.errors import DataError

TASK = dataclasses.replace(VTAB["dtd"], num_classes=3)


def _folder(root: Path, classes: int = 3) -> Path:
    """Lists of 800, 200 and 5 images; every image is a copy of its own, for the list of 1000 too."""
    images = root / "images"
    images.mkdir(parents=True)
    lines = {}
    for name, count in (("train800", 800), ("val200", 200), ("test", 5)):
        lines[name] = [f"images/{name} {i}.png {i % classes}" for i in range(count)]
        for i in range(count):
            (images / f"{name} {i}.png").write_bytes(written.png(i))
        (root / f"{name}.txt").write_text("\n".join(lines[name]) + "\n")
    (root / "train800val200.txt").write_text("\n".join(lines["train800"] + lines["val200"]))
    return root


def _change(path: Path, line: int, text: str) -> None:
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    path.write_text("\n".join(lines))


def test_lists_become_splits(tmp_path: Path) -> None:
    listed = read_image_lists(_folder(tmp_path), TASK).task
    assert listed.val is not None and listed.test is not None
    assert [len(split) for split in (listed.train, listed.val, listed.test)] == [800, 200, 5]
    assert listed.test.labels == (0, 1, 2, 0, 1)
    assert listed.val.images[7].name == str(tmp_path / "images" / "val200 7.png")
    assert listed.train.images[300].open().getpixel((0, 0)) == (44, 1, 77)


def test_the_list_of_a_thousand_may_be_absent(tmp_path: Path) -> None:
    (_folder(tmp_path) / "train800val200.txt").unlink()
    assert len(read_image_lists(tmp_path, TASK).task.splits()["val"]) == 200


def test_the_list_of_a_thousand_must_agree(tmp_path: Path) -> None:
    _change(_folder(tmp_path) / "train800val200.txt", 1, "images/train800 0.png 1")
    with pytest.raises(
        DataError, match=r"train800val200\.txt has other labels than train800\.txt and val200"
    ):
        read_image_lists(tmp_path, TASK)


def test_every_bad_line_is_named(tmp_path: Path) -> None:
    path = _folder(tmp_path) / "val200.txt"
    bad = [
        "gone.png 0",
        "images/val200 1.png 3",
        "0",
        "images/val200 3.png -1",
        "images/val200 4.png cat",
        "",
        "images/val200 6.png " + "9" * 5000,
    ]
    for line, text in enumerate([*bad, "x" * 300 + ".png 0", "a\0b.png 0", "\x1b[2J.png 0"], start=1):
        _change(path, line, text)
    with pytest.raises(DataError) as caught:
        read_image_lists(tmp_path, TASK)
    message = str(caught.value)
    assert f"{path}: 10 bad line(s):" in message
    for expected in (
        f"line 1: no such file: {tmp_path / 'gone.png'}",
        "line 2: the label is '3'; expected 0 to 2",
        "line 3: expected a path, a space and a label",
        "line 4: the label is '-1'",
        "line 5: the label is 'cat'",
        "line 6: expected a path, a space and a label",
        "line 7: the label is '999",
        "line 8: Cannot look at ",
        "line 9: Cannot look at ",
        "line 10: no such file: ",
        "\\x1b[2J.png",
    ):
        assert expected in message


def test_long_messages_are_cut(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="533 bad line") as caught:
        read_image_lists(_folder(tmp_path), dataclasses.replace(TASK, num_classes=1))
    assert "and 513 more" in str(caught.value)


@pytest.mark.parametrize(("name", "expected"), [("train800", 800), ("val200", 200), ("train800val200", 1000)])
def test_miscounted_lists(tmp_path: Path, name: str, expected: int) -> None:
    path = _folder(tmp_path) / f"{name}.txt"
    path.write_text("\n".join(path.read_text().splitlines()[1:]))
    with pytest.raises(DataError, match=rf"{name}.txt names {expected - 1} images; expected {expected}"):
        read_image_lists(tmp_path, TASK)


def test_an_empty_test_list(tmp_path: Path) -> None:
    (_folder(tmp_path) / "test.txt").write_text("")
    with pytest.raises(DataError, match=r"test\.txt names 0 images; expected at least one"):
        read_image_lists(tmp_path, TASK)


@pytest.mark.parametrize("missing", ["train800.txt", "val200.txt", "test.txt"])
def test_missing_lists(tmp_path: Path, missing: str) -> None:
    (_folder(tmp_path) / missing).unlink()
    with pytest.raises(DataError, match=f"has no {missing}. Download"):
        read_image_lists(tmp_path, TASK)


def test_an_image_in_two_splits(tmp_path: Path) -> None:
    _change(_folder(tmp_path) / "test.txt", 2, "images/train800 4.png 1")
    with pytest.raises(DataError, match=r"in more than one list:\n.*train800 4\.png\nDownload"):
        read_image_lists(tmp_path, TASK)


def test_other_encodings(tmp_path: Path) -> None:
    (_folder(tmp_path) / "test.txt").write_bytes("été.png 0\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"test\.txt cannot be read as text in UTF-8"):
        read_image_lists(tmp_path, TASK)


def test_folders_are_recognised(tmp_path: Path) -> None:
    assert not has_lists(tmp_path)
    (tmp_path / "test.txt").write_text("")
    assert has_lists(tmp_path)
    assert find_lists(tmp_path, "cifar100") == tmp_path / "cifar"
    (tmp_path / "cifar100").mkdir()
    (tmp_path / "test.txt").rename(tmp_path / "cifar100" / "test.txt")
    assert find_lists(tmp_path, "cifar100") == tmp_path / "cifar100"
    assert list_folders("dtd") == ("dtd",)
    assert list_folders("cifar100") == ("cifar", "cifar100")
    assert list_folders("smallnorb_elevation") == ("smallnorb_ele", "smallnorb_elevation")
