"""What a directory holds of a benchmark, from one source only."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from PIL import Image
from support import fgvc_for_tests as fgvc
from support.vtab_for_tests import write_vtab

from e2vpt import DataConfig
from e2vpt.benchmarks.suite.tasks import load_suite_task, open_suite, suite_notes
from e2vpt.benchmarks.vtab.tasks import VTAB
from e2vpt.errors import DataError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TFDS data of three tasks, two of them made of the same."""
    root = tmp_path_factory.mktemp("vtab")
    for name in ("dtd", "clevr_count"):
        write_vtab(root, name)
    return root


def write_lists(folder: Path, classes: int) -> None:
    """Image lists, all of one image for each split."""
    folder.mkdir(exist_ok=True)
    for name, count in (("train800", 800), ("val200", 200), ("test", 3)):
        Image.new("RGB", (4, 4)).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text("".join(f"{name}.png {i % classes}\n" for i in range(count)))


def test_tasks_that_are_there_with_their_groups(prepared: Path) -> None:
    suite = open_suite("vtab", str(prepared))
    assert (suite.source, suite.tasks) == (
        "tfds",
        {"dtd": "natural", "clevr_count": "structured", "clevr_distance": "structured"},
    )
    assert {name: len(tasks) for name, tasks in suite.groups().items()} == {
        "natural": 7,
        "specialized": 4,
        "structured": 8,
    }
    assert suite.whole() == list(VTAB)
    assert open_suite("vtab", str(prepared), ["clevr_distance"]).tasks == {"clevr_distance": "structured"}
    task = load_suite_task(suite, "clevr_distance", DataConfig())
    assert {name: len(split) for name, split in task.splits().items()} == {
        "train": 800,
        "val": 200,
        "test": 9,
    }


def test_sources_are_not_mixed(prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    write_lists(tmp_path / "cifar", 100)
    with pytest.raises(DataError, match=r"mixes sources.*image lists: cifar100; tfds: dtd, clevr_count"):
        open_suite("vtab", str(tmp_path))
    assert open_suite("vtab", str(tmp_path), source="image lists").tasks == {"cifar100": "natural"}
    assert list(open_suite("vtab", str(tmp_path), ["dtd"]).tasks) == ["dtd"]
    write_lists(tmp_path / "dtd", 47)
    with pytest.raises(DataError, match="has dtd from tfds and image lists"):
        open_suite("vtab", str(tmp_path))
    assert len(open_suite("vtab", str(tmp_path), source="tfds").tasks) == 3


def test_fine_grained_data_sets(tmp_path: Path) -> None:
    fgvc.write_cub(tmp_path / "CUB_200_2011")
    fgvc.write_dogs(tmp_path / "stanford-dogs")
    suite = open_suite("fgvc", str(tmp_path))
    assert suite.tasks == {"cub-200-2011": "fgvc", "stanford-dogs": "fgvc"}
    assert suite.groups() == {} and len(suite.whole()) == 5 and suite.source == "archives"
    assert len(load_suite_task(suite, "cub-200-2011", DataConfig()).classes) == 3


def test_what_is_not_there(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"does not hold svhn, magic; found dtd, clevr_count.*benchmarks.md"):
        open_suite("vtab", str(prepared), ["dtd", "svhn", "magic"])
    with pytest.raises(DataError, match="does not hold a task of VTAB-1k; found nothing"):
        open_suite("vtab", str(tmp_path))
    with pytest.raises(DataError, match="holds none of the FGVC data sets"):
        open_suite("fgvc", str(tmp_path))


def test_images_that_may_not_be_the_published_ones_are_named(tmp_path: Path) -> None:
    write_vtab(tmp_path, "caltech101")
    info = write_vtab(tmp_path, "dtd") / "dataset_info.json"
    suite = open_suite("vtab", str(tmp_path))
    (note,) = suite_notes(suite)
    assert note.startswith("caltech101: TFDS draws its training images from the order in which")
    info.write_text("{")  # Its own cell will say so.
    assert suite_notes(suite) == [note]
    assert suite_notes(dataclasses.replace(suite, source="image lists")) == []
