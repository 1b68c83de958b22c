"""The JSON files of VPT decide how the fine-grained data sets are split."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fgvc_for_tests import (
    DOGS,
    Write,
    sizes,
    vpt_files,
    write_cars,
    write_cars_older,
    write_cub,
    write_dogs,
    write_flowers,
    write_nabirds,
    write_vpt_json,
)

from e2vpt.benchmarks.fgvc.read import FgvcName, check_fgvc, load_fgvc
from e2vpt.config import DataConfig
from e2vpt.errors import DataError


def test_vpt_files_decide_the_splits(tmp_path: Path) -> None:
    files = vpt_files(write_cub(tmp_path), "images/")
    write_vpt_json(tmp_path, files)
    task = load_fgvc(tmp_path, "cub-200-2011", DataConfig())
    assert sizes(task) == {"train": 18, "val": 12, "test": 6}
    for which, split in task.splits().items():
        numbers = {
            Path(image.name).relative_to(tmp_path / "images").as_posix(): label
            for image, label in zip(split.images, split.labels, strict=True)
        }
        assert numbers == files[which]


def test_vpt_files_may_leave_no_image_to_validate_on(tmp_path: Path) -> None:
    files = vpt_files(write_cub(tmp_path), "images/")
    write_vpt_json(tmp_path, {**files, "val": {}, "train": files["train"] | files["val"]})
    with_val = load_fgvc(tmp_path, "cub-200-2011", DataConfig(val_fraction=0.0))
    assert sizes(with_val) == {"train": 30, "test": 6}


@pytest.mark.parametrize(
    ("name", "write", "below"),
    [
        ("nabirds", write_nabirds, "images/"),
        ("stanford-dogs", write_dogs, "Images/"),
        ("oxford-flowers", write_flowers, ""),
        ("stanford-cars", write_cars, ""),
        ("stanford-cars", write_cars_older, ""),
    ],
)
def test_where_vpt_files_count_their_paths_from(
    tmp_path: Path, name: FgvcName, write: Write, below: str
) -> None:
    write(tmp_path)
    before = load_fgvc(tmp_path, name, DataConfig())
    files = {
        which: {
            Path(image.name).relative_to(tmp_path).as_posix().removeprefix(below): label + 1
            for image, label in zip(split.images, split.labels, strict=True)
        }
        for which, split in before.splits().items()
    }
    write_vpt_json(tmp_path, files)
    # With the files the fraction has nothing left to say.
    assert load_fgvc(tmp_path, name, DataConfig(val_fraction=0.5)) == before


def test_split_files_of_the_other_packing_of_cars_are_named(tmp_path: Path) -> None:
    write_cars(tmp_path)
    write_vpt_json(tmp_path, {"train": {"car_ims/000001.jpg": 0}, "val": {}, "test": {}})
    with pytest.raises(
        DataError, match=r"official lists:\n  car_ims/000001\.jpg\nIs it of this data set and pa"
    ):
        load_fgvc(tmp_path, "stanford-cars", DataConfig())


def test_check_compares_vpt_files_with_the_official_lists(tmp_path: Path) -> None:
    files = vpt_files(write_cub(tmp_path), "images/")
    moved = files["train"].popitem()
    files["test"] = dict([moved, *list(files["test"].items())[2:]])
    write_vpt_json(tmp_path, files)
    assert check_fgvc(tmp_path, "cub-200-2011")[1][-2:] == [
        "2 images of the official lists are in none of the JSON files.",
        "test.json lacks 2 images of the official test split and has 1 others.",
    ]


def test_a_class_without_training_images_is_refused(tmp_path: Path) -> None:
    write_dogs(tmp_path)
    one_breed = {f"{DOGS[0]}/n02085620_{i * 13}.jpg": 0 for i in range(12)}
    write_vpt_json(tmp_path, {"train": one_breed, "val": {}, "test": {}})
    with pytest.raises(DataError, match="no training image of class 'Maltese dog', 'soft-coated"):
        load_fgvc(tmp_path, "stanford-dogs", DataConfig(val_fraction=0.0))
