"""Lists of Stanford Cars in both layouts; classes without a name and missing test labels are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from support.fgvc_for_tests import CARS, cells, write_car_annotations, write_cars, write_cars_older

from e2vpt.benchmarks.fgvc.cars import read_cars
from e2vpt.data.sources.listing import list_folder
from e2vpt.errors import DataError


@pytest.mark.parametrize("place", [".", "devkit"])
def test_cars_in_two_folders(tmp_path: Path, place: str) -> None:
    write_cars(tmp_path)
    labels = "cars_test_annos_withlabels.mat"
    (tmp_path / labels).rename(tmp_path / place / labels)
    lists = read_cars(list_folder(tmp_path))
    assert lists.class_names == dict(enumerate(CARS, start=1))
    assert [image.path for image in lists.images[29:31]] == ["cars_train/00030.jpg", "cars_test/00001.jpg"]
    assert [image.split for image in lists.images] == ["train"] * 30 + ["test"] * 6
    assert [image.class_id for image in lists.images[:4]] == [1, 2, 3, 1]


def test_cars_in_one_folder(tmp_path: Path) -> None:
    write_cars_older(tmp_path)
    lists = read_cars(list_folder(tmp_path))
    assert lists.class_names == dict(enumerate(CARS, start=1))
    assert [image.path for image in lists.images[::35]] == ["car_ims/000001.jpg", "car_ims/000036.jpg"]
    assert [image.split for image in lists.images] == ["train"] * 30 + ["test"] * 6
    assert [image.class_id for image in lists.images[:4]] == [1, 2, 3, 1]


def test_of_both_layouts_the_newer_counts(tmp_path: Path) -> None:
    write_cars_older(tmp_path)
    write_cars(tmp_path)
    assert read_cars(list_folder(tmp_path)).images[0].path == "cars_train/00001.jpg"


def test_the_devkits_test_list_has_no_labels(tmp_path: Path) -> None:
    write_cars(tmp_path)
    (tmp_path / "cars_test_annos_withlabels.mat").unlink()
    without = np.zeros((1, 1), dtype=[("bbox_x1", object), ("fname", object)])
    without[0, 0] = (np.uint16(30), "00001.jpg")
    savemat(tmp_path / "devkit" / "cars_test_annos.mat", {"annotations": without})
    with pytest.raises(
        DataError, match=r"has no cars_test_annos_withlabels\.mat or cars_test_annos_withlabels \(1\)\.mat;"
    ):
        read_cars(list_folder(tmp_path))
    (tmp_path / "devkit" / "cars_test_annos.mat").rename(tmp_path / "cars_test_annos_withlabels.mat")
    with pytest.raises(DataError, match=r"annotations has no field 'class'; found bbox_x1, fname"):
        read_cars(list_folder(tmp_path))


@pytest.mark.parametrize("label", [0, 4])
def test_a_class_without_a_name(tmp_path: Path, label: int) -> None:
    write_cars(tmp_path)
    write_car_annotations(tmp_path / "devkit" / "cars_train_annos.mat", [("00001.jpg", label)])
    with pytest.raises(DataError, match=rf"images of classes \[{label}\], but class_names has 3 names"):
        read_cars(list_folder(tmp_path))


def test_models_of_one_name_are_told_apart(tmp_path: Path) -> None:
    write_cars(tmp_path)
    savemat(tmp_path / "devkit" / "cars_meta.mat", {"class_names": cells(["Audi", "Acura", "Audi"])})
    assert list(read_cars(list_folder(tmp_path)).class_names.values()) == ["Audi (1)", "Acura", "Audi (3)"]
