"""A CSV file becomes a task; every bad line is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from e2vpt.config import DataConfig
from e2vpt.data.sources.load import load_task
from e2vpt.errors import DataError


def _table(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    """A CSV file beside images 0.png to 29.png in a folder `i`."""
    (folder / "i").mkdir(exist_ok=True)
    for i in range(30):
        Image.new("RGB", (4, 4)).save(folder / "i" / f"{i}.png")
    path = folder / "pets.csv"
    path.write_bytes(text.encode(encoding))
    return path


def _rows(first: int, last: int, rest: str) -> str:
    return "".join(f"i/{i}.png,{rest}\n" for i in range(first, last))


def test_with_splits(tmp_path: Path) -> None:
    text = "path,label,split\n" + _rows(0, 4, "dog,train") + _rows(4, 8, "cat,train")
    text += _rows(8, 10, "cat,Valid") + _rows(10, 13, "dog,test")
    task = load_task(_table(tmp_path, text), DataConfig(), verify=False)
    assert (task.name, task.classes) == ("pets", ("cat", "dog"))
    assert task.train.labels == (1, 1, 1, 1, 0, 0, 0, 0)
    assert {name: len(split) for name, split in task.splits().items()} == {"train": 8, "val": 2, "test": 3}
    assert task.train.images[0].open().size == (4, 4)


def test_without_splits_and_in_the_manner_of_spreadsheets(tmp_path: Path) -> None:
    text = "Label, Path\r\n" + "".join(f'{10 if i % 2 else 9}, "i/{i}.png"\r\n' for i in range(20))
    text += "\r\n,\r\n  , \r\n \r\n"
    task = load_task(_table(tmp_path, text, "utf-8-sig"), DataConfig(), verify=False)
    assert task.classes == ("9", "10")
    assert {name: len(split) for name, split in task.splits().items()} == {"train": 14, "val": 2, "test": 4}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("first", ["", "sep=SEP\n"])
def test_what_spreadsheets_write(tmp_path: Path, separator: str, encoding: str, first: str) -> None:
    rows = "path,label\n" + _rows(0, 5, "a") + _rows(5, 10, "b")
    text = (first.replace("SEP", ",") + rows).replace(",", separator)
    task = load_task(_table(tmp_path, text, encoding), DataConfig(), verify=False)
    assert task.classes == ("a", "b") and len(task.train) == 6
    with pytest.raises(DataError, match=f"line {2 + bool(first)}: no such file"):
        load_task(_table(tmp_path, text.replace("i/0.png", "gone.png"), encoding), DataConfig(), verify=False)


def test_many_bad_lines_are_counted(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_task(_table(tmp_path, "path,label\n" + "gone.png,a\n" * 3000), DataConfig(), verify=False)
    lines = str(caught.value).splitlines()
    assert len(lines) < 25 and "bad line(s)" in lines[0] and "more" in lines[-2]


def test_a_class_column_names_the_labels(tmp_path: Path) -> None:
    text = "path,label,class\n" + _rows(0, 5, "1,ant") + _rows(5, 10, "0,zebra")
    assert load_task(_table(tmp_path, text), DataConfig(), verify=False).classes == ("zebra", "ant")


def test_every_bad_line_is_named(tmp_path: Path) -> None:
    text = (
        "path,label,split\n" + _rows(0, 3, "a,train") + "gone.png,a,train\n,b,train\ni/3.png,,train\n"
        "i/4.png,b,dev\ni/0.png,b,train\ni/./1.png,a,test\ni/2.png,a,train\n../gone.png,b,test\ni/9.png,b\n"
    )
    with pytest.raises(DataError) as caught:
        load_task(_table(tmp_path, text), DataConfig(), verify=False)
    message = str(caught.value)
    assert "9 bad line(s)" in message
    for line in (
        f"line 5: no such file: {tmp_path}/gone.png",
        "line 6: the path is empty",
        "line 7: the label is empty",
        "line 8: split is 'dev'; expected train, val or test",
        "line 9: i/0.png was already on line 2, there with label 'a', here 'b'",
        "line 10: i/./1.png was already on line 3, there in split 'train', here 'test'",
        "line 11: i/2.png was already on line 4",
        f"line 12: no such file: {tmp_path}/../gone.png",
        "line 13: split is ''",
    ):
        assert line in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column path and no column label; found nothing"),
        ("path|label\ni/0.png|a\n", r"found 'path\|label'"),
        ("i/0.png,a\n", "the first line has no column path"),
        ("path,label\n", "a header but no rows"),
        ("path,label\ni/0.png,a,b\n", "line 2: more cells than columns"),
        ("path,label\ni/0.png,a\ni/1.png,a\n", "classes found: 'a'"),
        ('path,label\n"i/0.png,a\n', "cannot be read as CSV"),
        ("path,label\ni/0.png,a\0b\n", None),
        ("path,label,class\ni/0.png,1,a\ni/1.png,1,b\n", "line 3: label '1' is class 'b' here and 'a' above"),
        ("path,label,split\ni/0.png,a,test\ni/1.png,b,test\n", "no training images"),
        ("path,label,Label \ni/0.png,a,b\n", "the first line has 2 columns label. Rename all but one"),
        ('path,label,split\ni/0.png,a,train"\n', "split is 'train\"'; expected train, val or test"),
        ("path,label,split\ni/0.png,a,not_train\n", "split is 'not_train'"),
        ("path,label\n" + "x" * 300 + ".png,a\n", "no such file: .*xxx"),
        ("path,label\ni/\x1b[2J.png,a\n", r"no such file: .*i/\\x1b\[2J.png"),
    ],
)
def test_refusals(tmp_path: Path, text: str, message: str | None) -> None:
    with pytest.raises(DataError, match=message):
        load_task(_table(tmp_path, text), DataConfig(), verify=False)


def test_another_encoding_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not UTF-8"):
        load_task(_table(tmp_path, "path,label\ni/0.png,été\n", "latin-1"), DataConfig(), verify=False)


def test_accents_are_one_class_and_cells_speak_of_splits(tmp_path: Path) -> None:
    """However an accent is stored, as in class folders; with and without a column of class names."""
    text = "path,label,split\n" + _rows(0, 3, "\u00e9t\u00e9,Training") + _rows(3, 6, "e\u0301te\u0301,train")
    text += _rows(6, 9, "b,training") + _rows(9, 11, "e\u0301te\u0301,Testing")
    task = load_task(_table(tmp_path, text), DataConfig(), verify=False)
    assert task.classes == ("b", "\u00e9t\u00e9")
    assert task.test is not None and task.test.labels == (1, 1)
    text = "path,label,class\n" + _rows(0, 5, "0,\u00e9") + _rows(5, 9, "0,e\u0301") + _rows(9, 15, "1,b")
    assert load_task(_table(tmp_path, text), DataConfig(), verify=False).classes == ("\u00e9", "b")


def test_of_very_many_bad_lines_some_are_named_and_all_are_counted(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"3000 bad line\(s\)") as caught:
        load_task(
            _table(tmp_path, "path,label\n" + "".join(f"no/{i}.png,a\n" for i in range(3000))),
            DataConfig(),
            verify=False,
        )
    assert len(str(caught.value).splitlines()) == 23
    assert "and 2980 more" in str(caught.value)
