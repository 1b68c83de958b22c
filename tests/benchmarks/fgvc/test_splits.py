"""VPT's split files, and a seeded share of exactly the published size."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from support.fgvc_for_tests import write_vpt_json

from e2vpt.benchmarks.fgvc.lists import ImageLists, ListedImage
from e2vpt.benchmarks.fgvc.splits import read_vpt_splits, spare_for_validation
from e2vpt.data.sources.listing import list_folder
from e2vpt.data.sources.splits import SplitName
from e2vpt.errors import DataError

IMAGES = {"images/a.jpg": 10, "images/b.jpg": 10, "images/c.jpg": 20, "images/d.jpg": 20}
LISTS = ImageLists(
    where="birds",
    images=tuple(ListedImage(path=path, class_id=id, split="train") for path, id in IMAGES.items()),
    class_names={10: "Goose", 20: "Duck"},
)
GOOD = {"train": {"a.jpg": 0, "c.jpg": 1}, "val": {"b.jpg": 0}, "test": {"d.jpg": 1}}


def _read(folder: Path) -> dict[str, SplitName] | None:
    return read_vpt_splits(list_folder(folder), LISTS)


def _labels(sizes: list[int], seed: int) -> list[int]:
    """Labels with `sizes[c]` of class c in a random order, as lists need not be sorted."""
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    random.Random(seed).shuffle(labels)
    return labels


def _uneven(total: int, classes: int, least: int, most: int, seed: int) -> list[int]:
    """`classes` random sizes of `least` to `most` that add up to `total`."""
    generator = random.Random(seed)
    sizes = [least] * classes
    while sum(sizes) < total:
        place = generator.randrange(classes)
        sizes[place] += sizes[place] < most
    return sizes


# CUB-200-2011 and Stanford Dogs have these sizes of classes; of the others the total and the range are true.
CUB, DOGS = [30] * 194 + [29] * 6, [100] * 120


@pytest.mark.parametrize(
    ("sizes", "val"),
    [
        (CUB, 600),
        (DOGS, 1200),
        *((_uneven(23929, 555, 13, 60, seed), 2393) for seed in range(5)),
        *((_uneven(8144, 196, 24, 68, seed), 815) for seed in range(5)),
    ],
)
def test_the_published_sizes(sizes: list[int], val: int) -> None:
    labels = _labels(sizes, 0)
    for seed in range(3):
        spared = spare_for_validation(labels, 0.1, seed)
        assert len(set(spared)) == len(spared) == val
        assert spared == sorted(spared)
        counts = Counter(labels[index] for index in spared)
        assert all(abs(counts[label] - size / 10) < 1 for label, size in enumerate(sizes))


def test_images_that_are_missing_come_from_the_largest_remainders() -> None:
    labels = _labels([29, 30, 14, 24], 1)
    counts = Counter(labels[index] for index in spare_for_validation(labels, 0.1, 0))
    # 97 images give 10: 2 + 3 + 1 + 2 rounded down; then remainder 0.9, and of two of 0.4 the lower label.
    assert counts == {0: 3, 1: 3, 2: 2, 3: 2}


def test_a_share_is_a_fixed_function_of_labels_fraction_and_seed() -> None:
    labels = [0, 1] * 10
    assert spare_for_validation(labels, 0.2, 0) == spare_for_validation(labels, 0.2, 0) == [2, 7, 8, 11]
    assert len({tuple(spare_for_validation(labels, 0.2, seed)) for seed in range(20)}) > 10


@pytest.mark.parametrize(
    ("labels", "fraction", "counts"),
    [
        ([0] * 10 + [1], 0.9, {0: 9}),
        ([0, 1, 2], 0.5, {}),
        ([0] * 5 + [1] * 5, 0.0, {}),
        ([0] * 3 + [1] * 2, 0.99, {0: 2, 1: 1}),
        ([], 0.1, {}),
        ([0] * 30, 0.1, {0: 3}),
        ([0] * 100000, 1e-05, {0: 1}),
    ],
)
def test_edges(labels: list[int], fraction: float, counts: dict[int, int]) -> None:
    assert Counter(labels[index] for index in spare_for_validation(labels, fraction, 0)) == counts


def test_vpt_files(tmp_path: Path) -> None:
    write_vpt_json(tmp_path, GOOD)
    assert _read(tmp_path) == {
        "images/a.jpg": "train",
        "images/c.jpg": "train",
        "images/b.jpg": "val",
        "images/d.jpg": "test",
    }


@pytest.mark.parametrize(
    "before", ["images/", "./", "images/images/", "CUB/images/", "C:\\\\CUB\\\\images\\\\"]
)
def test_paths_may_count_from_other_folders(tmp_path: Path, before: str) -> None:
    splits = {which: {before + path: n for path, n in numbers.items()} for which, numbers in GOOD.items()}
    write_vpt_json(tmp_path, splits)
    found = _read(tmp_path)
    assert found is not None and found.keys() == IMAGES.keys()


@pytest.mark.parametrize("names", [("132", "7"), ("007.Goose", "008.Duck"), (132, "7"), (-1, 0)])
def test_classes_may_be_numbers_or_texts(tmp_path: Path, names: tuple[int | str, int | str]) -> None:
    splits = {which: {path: names[n] for path, n in numbers.items()} for which, numbers in GOOD.items()}
    write_vpt_json(tmp_path, splits)  # type: ignore[arg-type]
    found = _read(tmp_path)
    assert found is not None and found.keys() == IMAGES.keys()


def test_one_class_as_number_and_as_text(tmp_path: Path) -> None:
    write_vpt_json(tmp_path, {**GOOD, "test": {"d.jpg": "01"}})  # type: ignore[dict-item]
    assert _read(tmp_path) is not None


def test_the_files_may_lie_around_the_folder_or_in_it_but_no_deeper(tmp_path: Path) -> None:
    (tmp_path / "birds" / "CUB").mkdir(parents=True)
    write_vpt_json(tmp_path / "birds" / "CUB", GOOD)
    assert _read(tmp_path / "birds" / "CUB") == _read(tmp_path / "birds") is not None
    assert _read(tmp_path) is None


def test_without_any_file_there_are_no_splits(tmp_path: Path) -> None:
    (tmp_path / "train_0.1.json").write_text("{}")
    assert _read(tmp_path) is None


@pytest.mark.parametrize("gone", ["train", "val", "test"])
def test_one_file_needs_the_others(tmp_path: Path, gone: str) -> None:
    write_vpt_json(tmp_path, {which: numbers for which, numbers in GOOD.items() if which != gone})
    with pytest.raises(DataError, match=rf"has no {gone}\.json; found"):
        _read(tmp_path)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"val": {"e.jpg": 0}}, r"val\.json names images that .* official lists:\n  e\.jpg\n"),
        ({"val": {"../d.jpg": 1}}, r"val\.json names images .*:\n  \.\./d\.jpg\n"),
        ({"val": {"b.jpg": 0, "images/b.jpg": 0}}, r"val\.json names images twice:\n  images/b\.jpg\n"),
        ({"val": {"a.jpg": 0}}, r"images of val\.json that are in another .*:\n  images/a\.jpg\n"),
        (
            {"test": {"d.jpg": 0}},
            r"test\.json has images/d\.jpg in class '0', which is 'Duck' .* '0' was 'Goose'",
        ),
        ({"test": {"d.jpg": 2}}, r"has images/d\.jpg in class '2', which is 'Duck' .* and 'Duck' was '1'\."),
        ({"test": {"d.jpg": True}}, r"not of the form \{path: class\}: 'd\.jpg': 'True' is neither a number"),
        ({"test": {"d.jpg": 1.0}}, r"'d\.jpg': '1\.0' is neither a number nor a text"),
        ({"test": ["d.jpg"]}, r"test\.json is not of the form \{path: class\}: it holds no object"),
        ({"test": [{"d.jpg": 1}]}, r"test\.json is not of the form \{path: class\}: it holds no object"),
    ],
)
def test_files_that_do_not_fit(tmp_path: Path, splits: dict[str, dict[str, int]], message: str) -> None:
    write_vpt_json(tmp_path, {**GOOD, **splits})
    with pytest.raises(DataError, match=message):
        _read(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps({"b.jpg": 0})[:-1], r"val\.json cannot be read as JSON: .*Download it again"),
        ('{"b.jpg": 0, "b.jpg": 0}', r"val\.json names images twice:\n  images/b\.jpg"),
        ('{"b.jpg": ' + "9" * 5000 + "}", r"val\.json cannot be read as JSON"),
        ("[" * 100000, r"val\.json cannot be read as JSON"),
        ("", r"val\.json cannot be read as JSON"),
        ("\x00\xff", r"val\.json cannot be read as JSON"),
    ],
)
def test_files_that_do_not_parse(tmp_path: Path, text: str, message: str) -> None:
    write_vpt_json(tmp_path, GOOD)
    (tmp_path / "val.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        _read(tmp_path)
