"""A directory of benchmark data is what was published, or what is not is said, one thing at a time."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from support import tfds_for_tests as written
from support.published_for_tests import image_file, verdict_on, write_cifar, write_examples, write_lists

from e2vpt.benchmarks.suite.check import Check, Checked, check_fgvc_sets, check_markdown, check_vtab
from e2vpt.benchmarks.vtab.tasks import VTAB
from e2vpt.errors import DataError

_KITTI = {"train": 800, "validation": 200, "test": 711}


def _street(i: int) -> dict[str, written.Value]:
    """A car at 5, 15 or 25 m, or nothing."""
    if i % 4 == 3:
        return {"objects/type": [], "objects/location": []}
    return {"objects/type": [0], "objects/location": [0.0, 0.0, (5.0, 15.0, 25.0)[i % 4]]}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """KITTI with as many images as VTAB-1k takes of it, and CIFAR-100 with ten to test on."""
    root = tmp_path_factory.mktemp("tfds")
    write_examples(root / "kitti" / "3.2.0", _KITTI, _street, image_file("PNG", 2))
    write_cifar(root, image_file("PNG", 32))
    return root


@pytest.fixture
def copy(directory: Path, tmp_path: Path) -> Path:
    """The same, to damage."""
    return shutil.copytree(directory, tmp_path / "copy")


@pytest.mark.usefixtures("_ten_published")
def test_as_published(directory: Path) -> None:
    heard: list[str] = []
    check = check_vtab(str(directory), on_task=heard.append)
    assert [task.name for task in check.tasks] == heard == list(VTAB)
    assert verdict_on(check, "kitti_distance") == Checked(
        name="kitti_distance",
        group="structured",
        state="ok",
        source="tfds",
        counts={"train": 800, "val": 200, "test": 711},
        num_classes=4,
        formats="PNG",
    )
    assert verdict_on(check, "cifar100").state == "ok" and check.problems == ()


def test_some_tasks_are_missing(directory: Path) -> None:
    check = check_vtab(directory)
    missing = [task for task in check.tasks if task.state == "missing"]
    assert len(missing) == 17 and not check.right
    sun, clevr = verdict_on(check, "sun397"), verdict_on(check, "clevr_distance")
    assert (sun.source, sun.counts, sun.num_classes, sun.formats) == ("", {}, 0, "")
    assert sun.problems == (
        f"no data; expected in {directory}/sun397/tfds or {directory}/sun397. Prepare or copy it there.",
    )
    assert f"{directory}/clevr or {directory}/clevr_dist or {directory}/clevr_distance." in clevr.problems[0]


def test_fewer_images_than_published(directory: Path) -> None:
    cifar = verdict_on(check_vtab(directory), "cifar100")
    assert (cifar.state, cifar.counts["test"]) == ("differs", 10)
    assert cifar.problems == (
        "test has 10 images; published are 10,000. Is it the official data, and all of it?",
    )


def test_a_payload_that_is_not_what_was_written(copy: Path) -> None:
    shard = copy / "kitti" / "3.2.0" / "kitti-test.tfrecord-00000-of-00001"
    content = bytearray(shard.read_bytes())
    content[-10] ^= 1
    shard.write_bytes(content)
    check = check_vtab(copy)
    kitti = verdict_on(check, "kitti_distance")
    assert (kitti.state, kitti.source, kitti.counts) == ("broken", "", {})
    assert "does not match its checksum. Download, copy or prepare" in kitti.problems[0]
    assert verdict_on(check, "cifar100").state == "differs"


def test_a_truncated_shard(copy: Path) -> None:
    shard = copy / "kitti" / "3.2.0" / "kitti-validation.tfrecord-00000-of-00001"
    shard.write_bytes(shard.read_bytes()[:-30])
    kitti = verdict_on(check_vtab(copy), "kitti_distance")
    assert kitti.state == "broken" and "is truncated" in kitti.problems[0]


def test_a_folder_without_its_data(copy: Path) -> None:
    (copy / "kitti" / "3.2.0" / "dataset_info.json").unlink()
    kitti = verdict_on(check_vtab(copy), "kitti_distance")
    assert kitti.state == "broken" and str(copy / "kitti") in kitti.problems[0]


def test_one_task_from_two_sources(copy: Path) -> None:
    write_lists(copy / "cifar", image_file("PNG", 32), 100, 10)
    cifar = verdict_on(check_vtab(copy), "cifar100")
    assert cifar.state == "broken" and "both image lists" in cifar.problems[0]


@pytest.mark.usefixtures("_ten_published")
def test_tasks_from_several_sources(copy: Path) -> None:
    shutil.rmtree(copy / "cifar100")
    write_lists(copy / "cifar", image_file("PNG", 32), 100, 10)
    check = check_vtab(copy)
    assert verdict_on(check, "cifar100").state == verdict_on(check, "kitti_distance").state == "ok"
    assert verdict_on(check, "cifar100").source == "image lists"
    (problem,) = check.problems
    assert "(image lists: cifar100; tfds: kitti_distance). Take one for all" in problem
    assert not dataclasses.replace(check, tasks=check.tasks[:1]).right


@pytest.mark.usefixtures("_ten_published")
def test_classes_without_images(tmp_path: Path) -> None:
    write_cifar(tmp_path, image_file("PNG", 32), classes=97)
    cifar = verdict_on(check_vtab(tmp_path), "cifar100")
    assert cifar.state == "differs"
    assert cifar.problems == ("3 of 100 classes have no image in any split. Is it the official data?",)


def test_classes_without_training_images_are_no_problem(tmp_path: Path) -> None:
    splits = {
        split: [[written.example({"image": image_file("PNG", 2)} | _street(i % rows)) for i in range(count)]]
        for (split, count), rows in zip(_KITTI.items(), (3, 4, 4), strict=True)
    }
    written.write_prepared(tmp_path / "kitti" / "3.3.0", "kitti", splits)
    kitti = verdict_on(check_vtab(tmp_path), "kitti_distance")
    assert (kitti.state, kitti.problems) == ("ok", ())
    assert kitti.notes == ("1 of 4 classes have no training image, as the draw came out.",)


def test_nothing_there(tmp_path: Path) -> None:
    for nothing in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match=r"holds no task of VTAB-1k\. Looked for cifar100 in .* or cifar"):
            check_vtab(nothing)
    with pytest.raises(DataError, match="holds none of the FGVC data sets"):
        check_fgvc_sets(tmp_path)


def test_directories_that_cannot_be_looked_at(tmp_path: Path) -> None:
    for odd in ("x" * 300, "a\0b"):
        with pytest.raises(DataError, match="Cannot look at"):
            check_vtab(tmp_path / odd)
    with pytest.raises(DataError, match=r"\\x1b\[2J holds no task"):
        check_vtab(tmp_path / "\x1b[2J")


def test_a_table_and_what_is_wrong() -> None:
    counts = {"train": 800, "val": 200, "test": 21750}
    sun = Checked(
        name="sun397",
        group="natural",
        state="ok",
        source="tfds",
        counts=counts,
        num_classes=397,
        formats="JPEG",
        notes=("12 of 397 classes have no training image.",),
    )
    dtd = Checked(name="dtd", group="natural", state="broken", problems=("dtd is damaged:\n  one\n  two",))
    check = Check(tasks=(sun, dtd), problems=("Several sources.",))
    assert check_markdown(check) == [
        "| task | source | train | val | test | classes | format | verdict |",
        "|---|---|---|---|---|---|---|---|",
        "| sun397 | tfds | 800 | 200 | 21,750 | 397 | JPEG | ok |",
        "| dtd |  |  |  |  |  |  | broken |",
        "",
        "* Several sources.",
        "* dtd: dtd is damaged:\n    one\n    two",
        "* sun397, note: 12 of 397 classes have no training image.",
    ]
    clean = Check(tasks=(dataclasses.replace(sun, notes=()),))
    assert clean.right and len(check_markdown(clean)) == 3
