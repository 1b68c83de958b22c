"""The five fine-grained data sets become tasks from their official layouts; what does not fit is named."""

from __future__ import annotations

import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from support.fgvc_for_tests import (
    DOGS,
    image_bytes,
    sizes,
    stored_bytes,
    write_cars,
    write_cars_older,
    write_cub,
    write_dog_list,
    write_dogs,
    write_flowers,
    write_nabirds,
    write_vpt_json,
)

from e2vpt.benchmarks.fgvc.read import FGVC, FgvcName, check_fgvc, load_fgvc
from e2vpt.config import DataConfig
from e2vpt.errors import DataError

Write = Callable[[Path], dict[str, bytes]]
BIRDS = ("Black footed Albatross", "Laysan Albatross", "Sooty Albatross")
CARS = ("AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Acura TL Sedan 2012")
LAYOUTS: list[tuple[FgvcName, Write, tuple[str, ...], dict[str, int]]] = [
    ("cub-200-2011", write_cub, BIRDS, {"train": 27, "val": 3, "test": 6}),
    (
        "nabirds",
        write_nabirds,
        ("Snow Goose (295)", "Snow Goose (296)", "Oak Titmouse"),
        {"train": 27, "val": 3, "test": 6},
    ),
    (
        "oxford-flowers",
        write_flowers,
        ("pink primrose", "hard-leaved pocket orchid", "blackberry lily"),
        {"train": 6, "val": 6, "test": 12},
    ),
    (
        "stanford-dogs",
        write_dogs,
        ("Chihuahua", "Maltese dog", "soft-coated wheaten terrier"),
        {"train": 27, "val": 3, "test": 6},
    ),
    ("stanford-cars", write_cars, CARS, {"train": 27, "val": 3, "test": 6}),
    ("stanford-cars", write_cars_older, CARS, {"train": 27, "val": 3, "test": 6}),
]
each_layout = pytest.mark.parametrize(("name", "write", "classes", "counts"), LAYOUTS)


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


def test_split_files_of_the_other_packing_of_cars_are_named(tmp_path: Path) -> None:
    write_cars(tmp_path)
    write_vpt_json(tmp_path, {"train": {"car_ims/000001.jpg": 0}, "val": {}, "test": {}})
    with pytest.raises(
        DataError, match=r"official lists:\n  car_ims/000001\.jpg\nIs it of this data set and pa"
    ):
        load_fgvc(tmp_path, "stanford-cars", DataConfig())


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


def _vpt_files(written: dict[str, bytes], below: str) -> dict[str, dict[str, int]]:
    """Of every 12 images the first train, then 4 validate and the last 2 test; classes number from 0."""
    files: dict[str, dict[str, int]] = {"train": {}, "val": {}, "test": {}}
    for i, path in enumerate(written):
        split = "train" if i % 12 < 6 else "val" if i % 12 < 10 else "test"
        files[split][path.removeprefix(below)] = i // 12
    return files


def test_vpt_files_decide_the_splits(tmp_path: Path) -> None:
    files = _vpt_files(write_cub(tmp_path), "images/")
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
    files = _vpt_files(write_cub(tmp_path), "images/")
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


def test_check_says_what_differs_from_the_published_numbers(tmp_path: Path) -> None:
    write_cub(tmp_path)
    assert check_fgvc(tmp_path, "cub-200-2011")[1] == [
        "3 classes; published are 200.",
        "train has 27 images; published are 5394.",
        "val has 3 images; published are 600.",
        "test has 6 images; published are 5794.",
    ]


def test_check_compares_vpt_files_with_the_official_lists(tmp_path: Path) -> None:
    files = _vpt_files(write_cub(tmp_path), "images/")
    moved = files["train"].popitem()
    files["test"] = dict([moved, *list(files["test"].items())[2:]])
    write_vpt_json(tmp_path, files)
    assert check_fgvc(tmp_path, "cub-200-2011")[1][-2:] == [
        "2 images of the official lists are in none of the JSON files.",
        "test.json lacks 2 images of the official test split and has 1 others.",
    ]


def test_check_is_silent_on_the_published_numbers(tmp_path: Path) -> None:
    """Stanford Dogs at its true size, 120 breeds with 100 images each to train on, all of them one file."""
    (tmp_path / "one.jpg").write_bytes(image_bytes(0))
    rows: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
    for label in range(1, 121):
        folder = f"n{label:08d}-breed_{label}"
        (tmp_path / "Images" / folder).mkdir(parents=True)
        for i in range(171 if label <= 60 else 172):
            path = f"{folder}/{i}.jpg"
            (tmp_path / "Images" / path).hardlink_to(tmp_path / "one.jpg")
            rows["train" if i < 100 else "test"].append((path, label))
    for split, listed in rows.items():
        write_dog_list(tmp_path / f"{split}_list.mat", *zip(*listed, strict=True))
    assert check_fgvc(tmp_path, "stanford-dogs")[1] == []


@each_layout
def test_a_missing_image_is_named(
    tmp_path: Path, name: FgvcName, write: Write, classes: tuple[str, ...], counts: dict[str, int]
) -> None:
    gone = list(write(tmp_path))[5]
    (tmp_path / gone).unlink()
    listed = sum(counts.values())
    with pytest.raises(DataError, match=rf"missing \({listed} are listed\):\n  {gone}\nUnpack"):
        load_fgvc(tmp_path, name, DataConfig())


@each_layout
def test_an_image_in_no_list_is_named(
    tmp_path: Path, name: FgvcName, write: Write, classes: tuple[str, ...], counts: dict[str, int]
) -> None:
    more = Path(next(iter(write(tmp_path)))).with_name("more.jpg")
    (tmp_path / more).write_bytes(image_bytes(0))
    for load in (lambda: load_fgvc(tmp_path, name, DataConfig()), lambda: check_fgvc(tmp_path, name)):
        with pytest.raises(DataError, match=rf"images that no list names:\n  {more.as_posix()}\nMove"):
            load()


@each_layout
def test_every_list_is_needed_and_has_to_be_whole(
    tmp_path: Path, name: FgvcName, write: Write, classes: tuple[str, ...], counts: dict[str, int]
) -> None:
    write(tmp_path)
    needed = [
        path
        for path in tmp_path.rglob("*")
        if path.suffix in (".mat", ".txt") and path.name != "hierarchy.txt"
    ]
    assert needed
    for path in needed:
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(DataError, match=rf"has no .*{path.name}.*Unpack the official archive"):
            load_fgvc(tmp_path, name, DataConfig())
        last_line = whole.rstrip().rfind(b"\n")  # Of lines that are missing other lists tell.
        path.write_bytes(whole[: len(whole) * 9 // 10 if path.suffix == ".mat" else last_line])
        with pytest.raises(DataError, match=path.name):
            load_fgvc(tmp_path, name, DataConfig())
        path.write_bytes(whole)
    assert sizes(load_fgvc(tmp_path, name, DataConfig())) == counts


def test_a_compressed_archive_has_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "CUB_200_2011.tgz").write_bytes(b"\x1f\x8b")
    with pytest.raises(DataError, match=r"Unpack it and give the folder"):
        load_fgvc(tmp_path / "CUB_200_2011.tgz", "cub-200-2011", DataConfig())
    with pytest.raises(DataError, match=r"found CUB_200_2011.tgz. Unpack CUB_200_2011.tgz there"):
        load_fgvc(tmp_path, "cub-200-2011", DataConfig())


def test_nothing_there_and_no_such_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load_fgvc(tmp_path / "gone", "nabirds", DataConfig())
    with pytest.raises(DataError, match="'cub' is no data set of FGVC; expected cub-200-2011, nabirds"):
        load_fgvc(tmp_path, "cub", DataConfig())  # type: ignore[arg-type]


def test_a_class_without_training_images_is_refused(tmp_path: Path) -> None:
    write_dogs(tmp_path)
    one_breed = {f"{DOGS[0]}/n02085620_{i * 13}.jpg": 0 for i in range(12)}
    write_vpt_json(tmp_path, {"train": one_breed, "val": {}, "test": {}})
    with pytest.raises(DataError, match="no training image of class 'Maltese dog', 'soft-coated"):
        load_fgvc(tmp_path, "stanford-dogs", DataConfig(val_fraction=0.0))
