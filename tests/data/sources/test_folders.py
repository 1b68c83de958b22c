"""Class folders become a task; whatever does not fit is named."""

from __future__ import annotations

import shutil
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from e2vpt.config import DataConfig
from e2vpt.data.sources.load import load_task
from e2vpt.data.task import Task
from e2vpt.errors import DataError


def _fill(root: Path, **counts: int) -> Path:
    """`counts` images in folders whose name has `__` for a slash."""
    for folder, count in counts.items():
        path = root / folder.replace("__", "/")
        path.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.new("RGB", (8, 8), (i, 0, 0)).save(path / f"{i}.png")
    return root


def _sizes(task: Task) -> dict[str, int]:
    return {name: len(split) for name, split in task.splits().items()}


def _tar(folder: Path, arcname: str) -> Path:
    archive = folder.parent / "archive.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(folder, arcname=arcname)
    return archive


@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
def test_three_splits(tmp_path: Path, val: str) -> None:
    root = _fill(tmp_path / "pets", train__dog=3, train__cat=4, test__dog=2, **{f"{val}__cat": 1})
    (root / "labels.csv").write_text("beside the class folders")
    task = load_task(root, DataConfig(), verify=False)
    assert (task.name, task.classes) == ("pets", ("cat", "dog"))
    assert _sizes(task) == {"train": 7, "val": 1, "test": 2}
    assert task.test is not None and task.test.labels == (1, 1)
    assert Counter(task.train.labels) == {0: 4, 1: 3}


def test_train_alone_gives_its_share_to_val_and_has_no_test(tmp_path: Path) -> None:
    root = _fill(tmp_path, train__a=10, train__b=10)
    assert _sizes(load_task(root, DataConfig(val_fraction=0.2), verify=False)) == {"train": 16, "val": 4}


def test_class_folders_alone_are_split_in_three_and_may_nest(tmp_path: Path) -> None:
    root = _fill(tmp_path, a=10, b=8, b__more=2)
    assert _sizes(load_task(root, DataConfig(), verify=False)) == {"train": 14, "val": 2, "test": 4}


@pytest.mark.parametrize("arcname", ["pets", ".", "", "outer/pets"])
def test_an_archive_gives_the_same_task_as_its_folder(tmp_path: Path, arcname: str) -> None:
    root = _fill(tmp_path / "pets", train__a=4, train__b=4, test__a=1)
    archive = _tar(root, arcname)
    folder, tar = load_task(root, DataConfig(), verify=False), load_task(archive, DataConfig(), verify=False)
    shutil.rmtree(root / "test")  # Nothing is read from the folder any more.
    assert tar.classes == folder.classes
    for mine, theirs in zip(tar.splits().values(), folder.splits().values(), strict=True):
        assert mine.labels == theirs.labels
    assert np.asarray(tar.train.images[2].open()).shape == (8, 8, 3)
    assert [image.name.rsplit("/")[-1] for image in tar.train.images] == [
        image.name.rsplit("/")[-1] for image in folder.train.images
    ]


def test_one_top_folder_is_stepped_into(tmp_path: Path) -> None:
    _fill(tmp_path, pets__train__a=3, pets__train__b=3)
    assert load_task(tmp_path, DataConfig(), verify=False).classes == ("a", "b")


def test_accents_are_one_spelling(tmp_path: Path) -> None:
    decomposed, composed = "train__e\u0301t\u00e9", "test__\u00e9t\u00e9"
    root = _fill(tmp_path, train__b=2, **{decomposed: 2, composed: 1})
    assert load_task(root, DataConfig(), verify=False).classes == ("b", "\u00e9t\u00e9")


def test_both_spellings_in_one_split_are_refused(tmp_path: Path) -> None:
    decomposed, composed = "e\u0301", "\u00e9"
    root = _fill(tmp_path, b=2, **{decomposed: 2, composed: 2})
    if len(list(root.iterdir())) == 3:
        with pytest.raises(DataError, match="only differ in how an accent is stored"):
            load_task(root, DataConfig(), verify=False)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"train__a": 3, "train__b": 0}, r"class folders without an image:\n  'train/b'"),
        ({"train__a": 3, "train__b": 3, "val__c": 1}, "val has class 'c', unknown to train"),
        ({"train__a": 3}, "classes found: 'a'; at least two"),
        ({}, "classes found: none"),
        ({"val__a": 3, "test__a": 1}, "no training images; found only test, val"),
        ({"train__a": 3, "train__b": 3, "val__a": 1, "valid__a": 1}, r"has both val/ and valid/"),
        ({"train__a": 3, "train__b": 3, "extra__a": 1}, r"folders with images beside train/:\n  extra"),
        ({"train": 1, "train__a": 3, "train__b": 3}, r"outside of any class folder:\n  .*train/0\.png"),
        ({".": 1, "a": 3, "b": 3}, r"outside of any class folder:\n  .*0\.png"),
    ],
)
def test_refusals(tmp_path: Path, counts: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_task(_fill(tmp_path, **counts), DataConfig(), verify=False)


def test_stray_files_in_class_folders_are_all_named(tmp_path: Path) -> None:
    root = _fill(tmp_path, a=3, b=3)
    for name in ("a/list.csv", "b/movie.mp4", "b/noext"):
        (root / name).write_text("x")
    with pytest.raises(
        DataError, match=r"not images:\n  .*list\.csv\n  .*movie\.mp4\n  .*noext\nMove them away"
    ):
        load_task(root, DataConfig(), verify=False)


def test_a_long_list_is_cut_but_counted(tmp_path: Path) -> None:
    root = _fill(tmp_path, a=3, b=3)
    for i in range(25):
        (root / "a" / f"{i:02}.txt").write_text("x")
    with pytest.raises(DataError, match=r"19\.txt\n  and 5 more"):
        load_task(root, DataConfig(), verify=False)


def test_a_folder_without_train_may_not_hide_other_folders(tmp_path: Path) -> None:
    root = _fill(tmp_path, train__a=3, train__b=3)
    (root / "annotations").mkdir()
    (root / "annotations" / "all.xml").write_text("x")
    assert load_task(root, DataConfig(), verify=False).classes == ("a", "b")


def test_a_class_name_that_is_not_unicode_is_refused(tmp_path: Path) -> None:
    try:
        _fill(tmp_path, **{"\udcff": 2, "a": 2})
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system takes valid names only")
    with pytest.raises(DataError, match="not valid UTF-8"):
        load_task(tmp_path, DataConfig(), verify=False)


@pytest.mark.parametrize(
    "folders",
    [
        ("Training", "Testing"),
        ("seg_train__seg_train", "seg_test__seg_test"),
        ("train_images", "test_images"),
        ("training_set", "test_set"),
        ("TrainData", "TestData"),
        ("train", "Testing"),
        ("Pets-train", "test"),
    ],
)
def test_names_that_speak_of_splits_are_splits(tmp_path: Path, folders: tuple[str, str]) -> None:
    train, test = folders
    root = _fill(tmp_path, **{f"{train}__a": 5, f"{train}__b": 5, f"{test}__a": 2, f"{test}__b": 1})
    task = load_task(root, DataConfig(), verify=False)
    assert task.classes == ("a", "b")
    assert _sizes(task) == {"train": 8, "val": 2, "test": 3}


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"Training__a": 3, "Testing__b": 3}, r"Testing/ as test/, Training/ as train/"),
        ({"Training__a": 3, "Training__b": 3, "extra__a": 3}, r"Training/ as train/\), but not all"),
        ({"train_1__a": 3, "train_1__b": 3, "train_2__a": 3, "train_2__b": 3}, "named like splits"),
        ({"a__train": 3, "a__test": 1, "b__train": 3, "b__test": 1}, r"  a/ with test/, train/\n  b/ with"),
        ({"train__a__Train": 3, "train__a__Val": 1, "train__b": 3}, r"splits inside of classes:\n  a/ with"),
    ],
)
def test_doubtful_divisions_are_refused_with_a_reading(
    tmp_path: Path, counts: dict[str, int], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load_task(_fill(tmp_path, **counts), DataConfig(), verify=False)


@pytest.mark.parametrize("odd", ["train_station", "test_tube", "contest", "training", "constrained"])
def test_classes_may_have_names_like_splits(tmp_path: Path, odd: str) -> None:
    root = _fill(tmp_path, **{odd: 4, f"{odd}__more": 2, "airport": 6})
    assert set(load_task(root, DataConfig(), verify=False).classes) == {odd, "airport"}
