"""A prepared TFDS directory is read in TFDS's order, losslessly, and what is missing or odd is named."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from support import tfds_for_tests as written

from e2vpt.benchmarks.vtab.tfds import (
    BinaryImage,
    PreparedDataset,
    Record,
    class_names,
    open_prepared,
    prepared_versions,
    read_slice,
)
from e2vpt.errors import DataError


def _payload(number: int) -> bytes:
    return written.example({"image": written.png(number), "label": [number], "box": [0.5, 1.5], "none": []})


def _prepared(root: Path, version: str = "3.0.1") -> PreparedDataset:
    """Ten training examples in shards of 4, 0, 5 and 1, and two test examples."""
    numbers = [range(4), range(0), range(4, 9), range(9, 10)]
    shards = {
        "train": [list(map(_payload, shard)) for shard in numbers],
        "test": [[_payload(9), _payload(8)]],
    }
    written.write_prepared(root / "pets" / version, "pets", shards, {"label": 37})
    return open_prepared(root / "pets", [version])


def _read(data: PreparedDataset, split: str, start: int, stop: int) -> list[Record]:
    return list(read_slice(data, split, start, stop, ("image", "label")))


def _edit_info(data: PreparedDataset, **values: Any) -> None:
    path = data.folder / "dataset_info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_the_splits_and_shards(tmp_path: Path) -> None:
    data = _prepared(tmp_path)
    assert (data.name, data.folder.name) == ("pets", "3.0.1")
    assert data.splits == {"train": (4, 0, 5, 1), "test": (2,)}
    assert data.counts() == {"train": 10, "test": 2}
    assert [path.name for path in data.shards("train")][1:3] == [
        "pets-train.tfrecord-00001-of-00004",
        "pets-train.tfrecord-00002-of-00004",
    ]


@pytest.mark.parametrize(("start", "stop"), [(0, 10), (0, 4), (3, 5), (4, 9), (9, 10), (0, 1), (6, 10)])
def test_slices_go_over_the_shards_in_order(tmp_path: Path, start: int, stop: int) -> None:
    records = _read(_prepared(tmp_path), "train", start, stop)
    assert [record.one("label", int) for record in records] == list(range(start, stop))


def test_image_bytes_are_those_that_went_in(tmp_path: Path) -> None:
    for number, record in enumerate(_read(_prepared(tmp_path), "train", 0, 10)):
        image = record.image("image")
        assert image.read() == written.png(number)
        assert image.open().getpixel((0, 0)) == (number, 0, 77)
        assert pickle.loads(pickle.dumps(image)) == image


def test_images_are_named_by_file_and_record(tmp_path: Path) -> None:
    names = [record.image("image").name for record in _read(_prepared(tmp_path), "train", 0, 10)]
    assert len(set(names)) == 10
    assert names[5].endswith("/pets/3.0.1/pets-train.tfrecord-00002-of-00004[1]")


def test_only_the_features_asked_for_are_read(tmp_path: Path) -> None:
    record = next(read_slice(_prepared(tmp_path), "test", 0, 2, ("box", "none", "label")))
    assert record.values("box", float) == [0.5, 1.5]
    assert record.values("none", int) == []
    with pytest.raises(DataError, match=r"tfrecord-00000-of-00001\[0\] has no feature 'image'"):
        record.image("image")
    with pytest.raises(DataError, match=r"none holds 0 values \(int\); expected one"):
        record.one("none", int)
    with pytest.raises(DataError, match=r"label holds 0 values \(bytes\); expected one"):
        record.image("label")


def test_binary_images_become_black_and_white(tmp_path: Path) -> None:
    payloads = [written.example({"image": written.png(number, "L")}) for number in (0, 1)]
    written.write_prepared(tmp_path / "d" / "2.0.0", "d", {"train": [payloads]})
    data = open_prepared(tmp_path / "d", ["2.*.*"])
    images = [BinaryImage(file=record.image("image")) for record in _read(data, "train", 0, 2)]
    assert [image.open().getpixel((1, 1)) for image in images] == [(0, 0, 0), (255, 255, 255)]
    assert images[0].open().mode == "RGB"
    assert images[1].name == images[1].file.name


def test_slices_beyond_the_split(tmp_path: Path) -> None:
    data = _prepared(tmp_path)
    for start, stop in ((0, 11), (5, 5), (-1, 3)):
        with pytest.raises(DataError, match=rf"train has 10 examples; train\[{start}:{stop}\] is needed"):
            _read(data, "train", start, stop)
    with pytest.raises(DataError, match="has no split 'validation'; it has train, test"):
        _read(data, "validation", 0, 1)


def test_missing_shards_are_all_named(tmp_path: Path) -> None:
    data = _prepared(tmp_path)
    for number in (0, 3):
        (data.folder / f"pets-train.tfrecord-0000{number}-of-00004").unlink()
    expected = (
        r"2 of 4 files of train are missing: pets-train.*-00000-of-00004, pets-train.*-00003-of-00004\."
    )
    with pytest.raises(DataError, match=expected):
        _read(data, "train", 5, 6)
    assert len(_read(data, "test", 0, 2)) == 2


def test_truncated_and_damaged_shards(tmp_path: Path) -> None:
    data = _prepared(tmp_path)
    path = data.folder / "pets-train.tfrecord-00002-of-00004"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(DataError, match=r"pets-train\.tfrecord-00002-of-00004 is truncated"):
        _read(data, "train", 0, 10)
    path.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
    with pytest.raises(DataError, match=r"pets-train\.tfrecord-00002-of-00004 is damaged"):
        _read(data, "train", 0, 10)


@pytest.mark.parametrize("held", [4, 6])
def test_miscounted_shards(tmp_path: Path, held: int) -> None:
    data = _prepared(tmp_path)
    path = data.folder / "pets-train.tfrecord-00002-of-00004"
    written.write_records(path, [_payload(number) for number in range(held)])
    with pytest.raises(DataError, match=rf"00002-of-00004 holds {held} records; dataset_info.json says 5"):
        _read(data, "train", 0, 10)


def test_records_that_are_no_examples(tmp_path: Path) -> None:
    data = _prepared(tmp_path)
    written.write_records(data.folder / "pets-test.tfrecord-00000-of-00001", [_payload(1), b"\x0a\x50x"])
    with pytest.raises(DataError, match=r"00000-of-00001\[1\] is not a tf\.train\.Example"):
        _read(data, "test", 0, 2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fileFormat": "array_record"}, "file format 'array_record'; expected tfrecord"),
        ({"splits": [{"name": "train", "numShards": "1"}]}, "does not list splits with shardLengths"),
        ({"splits": [{"name": "train", "shardLengths": ["x"]}]}, "does not list splits with shardLengths"),
        ({"splits": [{"name": "train", "shardLengths": []}]}, "does not list splits with shardLengths"),
        ({"splits": [{"name": "train", "shardLengths": ["-1"]}]}, "does not list splits with shardLengths"),
        ({"splits": 3}, "does not list splits with shardLengths"),
        (
            {"splits": [{"name": "a", "shardLengths": ["1"], "filepathTemplate": "{SPLIT}.rec"}]},
            r"shards are named \{SPLIT\}\.rec",
        ),
    ],
)
def test_odd_infos(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    data = _prepared(tmp_path)
    _edit_info(data, **values)
    with pytest.raises(DataError, match=message):
        open_prepared(data.folder.parent, ["*"])


@pytest.mark.parametrize("content", ["", "{", "[1]", "\xff", "[" * 100_000])
def test_broken_infos(tmp_path: Path, content: str) -> None:
    data = _prepared(tmp_path)
    (data.folder / "dataset_info.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(DataError, match=r"dataset_info\.json (cannot be read as JSON|holds no JSON object)"):
        open_prepared(data.folder.parent, ["*"])


def test_infos_of_tfds_before_4(tmp_path: Path) -> None:
    """No file format, no template, and numbers that are numbers."""
    data = _prepared(tmp_path)
    info = {"name": "pets", "version": "3.0.1", "splits": [{"name": "test", "shardLengths": [2]}]}
    (data.folder / "dataset_info.json").write_text(json.dumps(info))
    assert [
        r.one("label", int) for r in _read(open_prepared(data.folder.parent, ["3.*.*"]), "test", 0, 2)
    ] == [
        9,
        8,
    ]
    assert open_prepared(data.folder.parent, ["3.*.*"]).before_4_2 and not data.before_4_2


def test_the_version_is_the_first_allowed_and_of_those_the_highest(tmp_path: Path) -> None:
    for version in ("2.9.0", "3.0.2", "3.0.10", "4.0.0"):
        _prepared(tmp_path, version)
    (tmp_path / "pets" / "3.1.0").mkdir()  # Never finished.
    (tmp_path / "pets" / "3.x.0").mkdir()
    (tmp_path / "pets" / "3.x.0" / "dataset_info.json").write_text("{}")
    names = [path.name for path in prepared_versions(tmp_path / "pets")]
    assert names == ["2.9.0", "3.0.2", "3.0.10", "4.0.0"]
    assert open_prepared(tmp_path / "pets", ["3.*.*"]).folder.name == "3.0.10"
    assert open_prepared(tmp_path / "pets", ["3.3.0", "2.*.*", "4.0.0"]).folder.name == "2.9.0"
    with pytest.raises(
        DataError, match=r"no prepared version 5\.\*\.\*; found 2.9.0, 3.0.2, 3.0.10, 4.0.0\."
    ):
        open_prepared(tmp_path / "pets", ["5.*.*"])


def test_configs_have_their_own_folder(tmp_path: Path) -> None:
    _prepared(tmp_path)
    (tmp_path / "pets").rename(tmp_path / "rgb")
    (tmp_path / "pets").mkdir()
    (tmp_path / "rgb").rename(tmp_path / "pets" / "rgb")
    opened = open_prepared(tmp_path / "pets" / "rgb", ["3.*.*"])
    assert opened.folder == tmp_path / "pets" / "rgb" / "3.0.1"
    with pytest.raises(DataError, match=r"pets/all: no prepared .* found none\. Prepare the data set"):
        open_prepared(tmp_path / "pets" / "all", ["3.*.*"])


def test_class_names(tmp_path: Path) -> None:
    data = _prepared(tmp_path)
    assert class_names(data, "label", 37) is None
    (data.folder / "label.labels.txt").write_text("Abyssinian\nété \n\nbasset hound\n", encoding="utf-8")
    assert class_names(data, "label", 3) == ("Abyssinian", "été", "basset hound")
    with pytest.raises(DataError, match="label has 3 classes; expected 37"):
        class_names(data, "label", 37)
    (data.folder / "label.labels.txt").write_bytes(b"\xff\n")
    with pytest.raises(DataError, match="Cannot read the class names in"):
        class_names(data, "label", 3)


def test_paths_that_cannot_be_looked_at(tmp_path: Path) -> None:
    for odd in ("x" * 300, "a\0b"):
        with pytest.raises(DataError, match="Cannot look at"):
            open_prepared(tmp_path / odd, ["3.*.*"])
    data = _prepared(tmp_path)
    _edit_info(data, name="p" * 300)
    with pytest.raises(DataError, match=r"Cannot look at .*: File name too long"):
        _read(open_prepared(data.folder.parent, ["3.*.*"]), "test", 0, 1)
