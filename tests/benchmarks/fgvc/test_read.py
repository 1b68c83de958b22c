"""The five fine-grained data sets become tasks from their official layouts, unpacked or in archives."""

from __future__ import annotations

import shutil
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from support.fgvc_for_tests import (
    BIRDS,
    LAYOUTS,
    Write,
    each_layout,
    sizes,
    stored_bytes,
    write_cars,
    write_cars_older,
    write_cub,
    write_dogs,
    write_flowers,
    write_vpt_json,
)

from e2vpt.benchmarks.fgvc.read import FGVC, FgvcName, load_fgvc
from e2vpt.config import DataConfig


@each_layout
def test_every_layout(
    tmp_path: Path, name: FgvcName, write: Write, classes: tuple[str, ...], counts: dict[str, int]
) -> None:
    written = write(tmp_path)
    task = load_fgvc(tmp_path, name, DataConfig())
    assert (task.name, task.classes, sizes(task)) == (name, classes, counts)
    images = [image for split in task.splits().values() for image in split.images]
    assert {Path(image.name).relative_to(tmp_path).as_posix() for image in images} == written.keys()
    for image in images:
        assert stored_bytes(image) == written[Path(image.name).relative_to(tmp_path).as_posix()]
    assert images[0].open().size == (8, 8)


def test_every_data_set_has_a_layout_here() -> None:
    assert {name for name, *_ in LAYOUTS} == set(FGVC)


def test_labels_of_birds_and_dogs_are_those_of_their_folders(tmp_path: Path) -> None:
    write_cub(tmp_path / "cub")
    write_dogs(tmp_path / "dogs")
    for task in (
        load_fgvc(tmp_path / "cub", "cub-200-2011", DataConfig()),
        load_fgvc(tmp_path / "dogs", "stanford-dogs", DataConfig()),
    ):
        for split in task.splits().values():
            for image, label in zip(split.images, split.labels, strict=True):
                assert task.classes[label].replace(" ", "_") in Path(image.name).parent.name


@pytest.mark.parametrize("write", [write_cars, write_cars_older])
def test_labels_and_test_split_of_cars(tmp_path: Path, write: Write) -> None:
    write(tmp_path)
    task = load_fgvc(tmp_path, "stanford-cars", DataConfig(val_fraction=0.0))
    assert sizes(task) == {"train": 30, "test": 6}
    assert task.train.labels == tuple(i % 3 for i in range(30))
    assert task.test is not None and task.test.labels == (0, 1, 2, 0, 1, 2)
    first = task.test.images[0].name
    assert first.endswith("cars_test/00001.jpg" if write is write_cars else "car_ims/000031.jpg")


def test_flowers_are_split_by_their_own_lists(tmp_path: Path) -> None:
    write_flowers(tmp_path)
    task = load_fgvc(tmp_path, "oxford-flowers", DataConfig(val_fraction=0.3))
    assert task.val is not None
    numbers = [int(Path(image.name).stem.removeprefix("image_")) for image in task.val.images]
    assert numbers == [4, 5, 6, 16, 17, 18]
    assert task.val.labels == (0, 1, 2, 0, 1, 2)


def test_the_seed_moves_validation_but_never_test(tmp_path: Path) -> None:
    write_cub(tmp_path)
    first, again, other = (
        load_fgvc(tmp_path, "cub-200-2011", DataConfig(split_seed=seed, val_fraction=0.3))
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first.test == other.test
    assert first.val is not None and other.val is not None and first.val != other.val
    assert Counter(first.val.labels) == Counter(other.val.labels) == {0: 3, 1: 3, 2: 3}


def test_the_top_folder_of_an_archive_is_found(tmp_path: Path) -> None:
    write_cub(tmp_path / "CUB_200_2011")
    (tmp_path / "attributes.txt").write_text("beside it in the official archive")
    assert sizes(load_fgvc(tmp_path, "cub-200-2011", DataConfig()))["test"] == 6


def test_cars_as_kaggle_packs_them(tmp_path: Path) -> None:
    write_cars(tmp_path)
    before = load_fgvc(tmp_path, "stanford-cars", DataConfig())
    for folder, inside in (("cars_train",) * 2, ("cars_test",) * 2, ("devkit", "car_devkit")):
        (tmp_path / folder).rename(tmp_path / "moved")
        (tmp_path / inside).mkdir()
        (tmp_path / "moved").rename(tmp_path / inside / folder)
    labels = tmp_path / "cars_test_annos_withlabels.mat"
    labels.rename(labels.with_name("cars_test_annos_withlabels (1).mat"))
    names = {which: [Path(image.name).name for image in s.images] for which, s in before.splits().items()}
    write_vpt_json(
        tmp_path,
        {
            which: {
                f"cars_{'test' if which == 'test' else 'train'}/" * 2 + name: str(label)
                for name, label in zip(names[which], split.labels, strict=True)
            }
            for which, split in before.splits().items()
        },
    )  # type: ignore[arg-type]
    after = load_fgvc(tmp_path, "stanford-cars", DataConfig(val_fraction=0.5))
    assert after.classes == before.classes
    for which, split in after.splits().items():
        assert [Path(image.name).name for image in split.images] == names[which]
        assert split.labels == before.splits()[which].labels
        assert "/cars_t" in split.images[0].name.replace("/cars_train/cars_train", "/cars_t")


def test_dogs_in_a_folder_of_the_same_name(tmp_path: Path) -> None:
    write_dogs(tmp_path / "lists", tmp_path / "images")
    assert sizes(load_fgvc(tmp_path, "stanford-dogs", DataConfig())) == {"train": 27, "val": 3, "test": 6}


def _tar(folder: Path, archive: Path, *names: str) -> None:
    with tarfile.open(archive, "w") as tar:
        for name in names:
            tar.add(folder / name, arcname=name)


def test_dogs_in_their_own_archives_are_read_in_place(tmp_path: Path) -> None:
    written = write_dogs(tmp_path / "unpacked")
    (tmp_path / "packed").mkdir()
    _tar(tmp_path / "unpacked", tmp_path / "packed" / "images.tar", "Images")
    _tar(tmp_path / "unpacked", tmp_path / "packed" / "lists.tar", "train_list.mat", "test_list.mat")
    shutil.rmtree(tmp_path / "unpacked")
    task = load_fgvc(tmp_path / "packed", "stanford-dogs", DataConfig())
    assert sizes(task) == {"train": 27, "val": 3, "test": 6}
    for split in task.splits().values():
        for image in split.images:
            assert stored_bytes(image) == written[image.name.partition("images.tar:")[2]]


def test_one_archive_of_everything_is_read_in_place(tmp_path: Path) -> None:
    write_cub(tmp_path / "CUB_200_2011")
    _tar(tmp_path, tmp_path / "cub.tar", "CUB_200_2011")
    task = load_fgvc(tmp_path / "cub.tar", "cub-200-2011", DataConfig())
    assert task.classes == BIRDS
    assert stored_bytes(task.train.images[0]).startswith(b"\xff\xd8")
