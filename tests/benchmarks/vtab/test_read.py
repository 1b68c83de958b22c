"""Each of the 19 tasks comes out of data in the true format with the official splits and labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support import tfds_for_tests as written
from support.vtab_for_tests import Features, png, write_directory, write_vtab

from e2vpt.benchmarks.vtab.data import VtabData
from e2vpt.benchmarks.vtab.read import read_vtab, vtab_notes
from e2vpt.benchmarks.vtab.tasks import VTAB
from e2vpt.benchmarks.vtab.tfds import BinaryImage
from e2vpt.errors import DataError


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TFDS data directory with all that the 19 tasks need."""
    return write_directory(tmp_path_factory.mktemp("tfds"))


_CUTS: dict[str, tuple[range, range, range]] = {
    "held out": (range(800), range(1800, 2000), range(7)),
    "a fifth": (range(800), range(1600, 1800), range(7)),
    "own": (range(800), range(200), range(7)),
    "carved": (range(800), range(1203, 1403), range(1604, 2005)),
    "sprites": (range(800), range(1604, 1804), range(1804, 2005)),
    "clevr": (range(800), range(1800, 2000), range(9)),
    "norb": (range(800), range(200), range(205, 410)),
}


@pytest.mark.parametrize(
    ("name", "cuts", "label"),
    [
        ("cifar100", "held out", lambda i: i % 100),
        ("caltech101", "held out", lambda i: i % 102),
        ("dtd", "own", lambda i: i % 47),
        ("oxford_flowers102", "own", lambda i: i % 102),
        ("oxford_iiit_pet", "a fifth", lambda i: i % 37),
        ("svhn", "held out", lambda i: i % 10),
        ("sun397", "own", lambda i: i % 397),
        ("patch_camelyon", "own", lambda i: i % 2),
        ("eurosat", "carved", lambda i: i % 10),
        ("resisc45", "carved", lambda i: i % 45),
        ("diabetic_retinopathy", "own", lambda i: i % 5),
        ("clevr_count", "clevr", lambda i: i % 8),
        ("clevr_distance", "clevr", lambda i: i % 6),
        ("dmlab", "own", lambda i: i % 6),
        ("kitti_distance", "own", lambda i: i % 4),
        ("dsprites_location", "sprites", lambda i: i % 32 // 2),
        ("dsprites_orientation", "sprites", lambda i: int(i % 40 / 2.5)),
        ("smallnorb_azimuth", "norb", lambda i: i % 18),
        ("smallnorb_elevation", "norb", lambda i: i % 9),
    ],
)
def test_every_task_is_read_whole(directory: Path, name: str, cuts: str, label: Callable[[int], int]) -> None:
    data = read_vtab(directory, name)
    assert data.source == "tfds"
    assert data.where.startswith(str(directory / VTAB[name].folder))
    task = read_vtab(directory, name).task
    assert (task.name, len(task.classes)) == (name, VTAB[name].num_classes)
    for split, numbers in zip(("train", "val", "test"), _CUTS[cuts], strict=True):
        found = task.splits()[split]
        assert found.labels == tuple(map(label, numbers))
        files = [image.file if isinstance(image, BinaryImage) else image for image in found.images]
        mode = "L" if name.startswith("dsprites") else "RGB"
        assert [file.read() for file in files] == [png(i, mode) for i in numbers]  # type: ignore[attr-defined]
    images = [image.name for split in task.splits().values() for image in split.images]
    assert len(set(images)) == len(images)
    assert task.test is not None
    assert len(task.train_and_val().train) == 1000


def test_sprites_are_white_on_black(directory: Path) -> None:
    images = read_vtab(directory, "dsprites_location").task.train.images
    assert [image.open().getpixel((0, 0)) for image in images[:2]] == [(0, 0, 0), (255, 255, 255)]


def test_sprites_fall_into_sixteen_bins(directory: Path) -> None:
    """32 positions make bins of two, 40 orientations bins of two and a half: 3 and 2 in turn."""
    location = read_vtab(directory, "dsprites_location").task.train.labels[:32]
    assert location == tuple(label for label in range(16) for _ in range(2))
    orientation = read_vtab(directory, "dsprites_orientation").task.train.labels[:40]
    assert orientation == tuple(label for label in range(16) for _ in range(3 - label % 2))


@pytest.mark.parametrize(
    ("name", "features", "message"),
    [
        (
            "dtd",
            lambda i: {"label": [47]},
            r"train\.tfrecord-00000-of-00003\[0\]: the label of dtd is 47; expected 0",
        ),
        ("dtd", lambda i: {"label": [-1]}, "the label of dtd is -1; expected 0 to 46"),
        ("dtd", lambda i: {"label": [1, 2]}, r"label holds 2 values \(int\); expected one"),
        ("dtd", lambda i: {}, r"\[0\] has no feature 'label'"),
        (
            "dtd",
            lambda i: {"label": [0], "image": [b"a", b"b"]},
            r"image holds 2 values \(bytes\); expected one",
        ),
        ("clevr_count", lambda i: {"objects/size": [1, 1]}, "the label of clevr_count is -1"),
        ("clevr_distance", lambda i: {"objects/pixel_coords": []}, "no label of clevr_distance: "),
        ("clevr_distance", lambda i: {"objects/pixel_coords": [1.0, 1.0, 0.0]}, "clevr_distance is -1"),
        (
            "clevr_distance",
            lambda i: {"objects/pixel_coords": [1.0, 1.0]},
            "holds 2 numbers, no multiple of 3",
        ),
        (
            "kitti_distance",
            lambda i: {"objects/type": [1], "objects/location": []},
            "no label of kitti_distance",
        ),
        ("dsprites_location", lambda i: {"label_x_position": [32]}, "the label of dsprites_location is 16"),
    ],
)
def test_odd_labels(tmp_path: Path, name: str, features: Callable[[int], Features], message: str) -> None:
    write_vtab(tmp_path, name, features=features)
    with pytest.raises(DataError, match=message):
        read_vtab(tmp_path, name)


def test_a_class_without_training_images_stays_a_class(tmp_path: Path) -> None:
    write_vtab(tmp_path, "sun397", features=lambda i: {"label": [i % 395]})
    task = read_vtab(tmp_path, "sun397").task
    assert set(task.train.labels) == set(range(395))
    assert len(task.classes) == 397 and task.train_and_val().complete is False


def test_class_names(tmp_path: Path, directory: Path) -> None:
    folder = write_vtab(tmp_path, "dtd")
    names = tuple(f"texture {i}" for i in range(47))
    (folder / "label.labels.txt").write_text("\n".join(names) + "\n")
    assert read_vtab(tmp_path, "dtd").task.classes == names
    (folder / "label.labels.txt").write_text("\n".join(names[1:]) + "\n")
    with pytest.raises(DataError, match="label has 46 classes; expected 47"):
        read_vtab(tmp_path, "dtd")
    assert read_vtab(directory, "dmlab").task.classes == ("0", "1", "2", "3", "4", "5")
    assert read_vtab(directory, "clevr_count").task.classes[::7] == ("3 objects", "10 objects")
    assert read_vtab(directory, "smallnorb_elevation").task.classes[8] == "70 degrees"
    assert read_vtab(directory, "smallnorb_azimuth").task.classes[17] == "340 degrees"


def test_too_few_examples(tmp_path: Path) -> None:
    one = written.example({"image": png(1), "label": [1]})
    written.write_prepared(tmp_path / "eurosat/rgb/2.0.0", "eurosat", {"train": [[one] * 1300]})
    with pytest.raises(
        DataError, match=r"too few examples for eurosat: train\[0:800\] and train\[780:980\] overlap"
    ):
        read_vtab(tmp_path, "eurosat")
    written.write_prepared(
        tmp_path / "cifar100/3.0.2", "cifar100", {"train": [[one] * 1500], "test": [[one]]}
    )
    with pytest.raises(DataError, match=r"train has 1500 examples; train\[1350:1550\] is needed"):
        read_vtab(tmp_path, "cifar100")
    written.write_prepared(
        tmp_path / "dtd/3.0.1", "dtd", {"train": [[one] * 900], "validation": [[one] * 200]}
    )
    with pytest.raises(DataError, match="has no split 'test'; dtd needs it"):
        read_vtab(tmp_path, "dtd")


def test_another_version_is_refused(tmp_path: Path) -> None:
    write_vtab(tmp_path, "oxford_iiit_pet").rename(tmp_path / "oxford_iiit_pet" / "5.0.0")
    with pytest.raises(DataError, match=r"no prepared version 3\.\*\.\* or 4\.\*\.\*; found 5\.0\.0"):
        read_vtab(tmp_path, "oxford_iiit_pet")


def test_oxford_pets_of_later_tfds_are_read_with_a_note(tmp_path: Path) -> None:
    before = write_vtab(tmp_path, "oxford_iiit_pet")
    official = read_vtab(tmp_path, "oxford_iiit_pet")
    before.rename(before.with_name("4.0.0"))
    later = read_vtab(tmp_path, "oxford_iiit_pet")
    assert later.task.train.labels == official.task.train.labels and official.notes == ()
    assert "version 4.0.0 stores 12 damaged images compressed once more" in later.notes[0]
    # Both there: the version of the published numbers.
    write_vtab(tmp_path, "oxford_iiit_pet")
    assert read_vtab(tmp_path, "oxford_iiit_pet") == official


@pytest.mark.parametrize("name", ["eurosat", "resisc45", "caltech101", "dtd"])
def test_an_order_that_is_not_the_same_everywhere_is_named(tmp_path: Path, name: str) -> None:
    info = write_vtab(tmp_path, name) / "dataset_info.json"
    assert len(vtab_notes(tmp_path, name)) == (name == "caltech101")
    content = json.loads(info.read_text())
    del content["moduleName"]  # As TFDS 4.1.0 and before wrote it.
    info.write_text(json.dumps(content))
    notes = read_vtab(tmp_path, name).notes
    assert notes == vtab_notes(tmp_path, name)
    expected = {"dtd": "", "caltech101": "the order in which the file system lists"}
    assert expected.get(name, "TFDS before 4.2.0 prepared it, in an order that depends") in "".join(notes)


def test_damage_is_found(tmp_path: Path) -> None:
    path = write_vtab(tmp_path, "dmlab") / "dmlab-test.tfrecord-00001-of-00003"
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="00001-of-00003 is damaged"):
        read_vtab(tmp_path, "dmlab")
    path.unlink()
    with pytest.raises(DataError, match="1 of 3 files of test are missing: dmlab-test"):
        read_vtab(tmp_path, "dmlab")


def _write_lists(folder: Path, classes: int) -> None:
    folder.mkdir(parents=True)
    (folder / "1.png").write_bytes(png(1))
    for name, count in (("train800", 800), ("val200", 200), ("test", 3)):
        for i in range(count):
            (folder / f"{name}-{i}.png").symlink_to(folder / "1.png")
        lines = [f"{name}-{i}.png {i % classes}" for i in range(count)]
        (folder / f"{name}.txt").write_text("\n".join(lines))


@pytest.mark.parametrize("folder", ["kitti", "kitti_distance"])
def test_image_lists(tmp_path: Path, folder: str) -> None:
    _write_lists(tmp_path / folder, 4)
    data = read_vtab(str(tmp_path), "kitti_distance")
    assert (data.source, data.where) == ("image lists", str(tmp_path / folder))
    task = data.task
    assert task.classes == ("0", "1", "2", "3")
    assert {which: len(split) for which, split in task.splits().items()} == {
        "train": 800,
        "val": 200,
        "test": 3,
    }


def test_sources_are_not_mixed(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"has neither image lists \(.* nor TFDS data .*Is it the right folder"
    ):
        read_vtab(tmp_path, "kitti_distance")
    _write_lists(tmp_path / "kitti", 4)
    write_vtab(tmp_path, "kitti_distance")
    with pytest.raises(DataError, match=r"has both image lists .* and TFDS data .*Choose one source"):
        read_vtab(tmp_path, "kitti_distance")
    found: list[VtabData] = [read_vtab(tmp_path, "kitti_distance", source=s) for s in ("tfds", "image lists")]
    assert [data.source for data in found] == ["tfds", "image lists"]
    with pytest.raises(DataError, match=r"dtd has no train800\.txt, no val200\.txt, no test\.txt"):
        read_vtab(tmp_path, "dtd", source="image lists")


def test_unknown_tasks(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"'cifar10' is no task of VTAB-1k\. Expected one of cifar100, caltech101"
    ):
        read_vtab(tmp_path, "cifar10")


def test_directories_that_cannot_be_looked_at(tmp_path: Path) -> None:
    for odd in ("x" * 300, "a\0b"):
        with pytest.raises(DataError, match="Cannot look at"):
            read_vtab(tmp_path / odd, "dtd")
    with pytest.raises(DataError, match=r"\\x1b\[2J has neither image lists"):
        read_vtab(tmp_path / "\x1b[2J", "dtd")
