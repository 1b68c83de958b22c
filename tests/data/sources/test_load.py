"""`load_task` finds the reader for a source and names every broken image."""

from __future__ import annotations

import random
import tarfile
from pathlib import Path

import pytest
import torch
from PIL import Image

import e2vpt.data
from e2vpt.config import DataConfig
from e2vpt.data import ImageFile, Task, load_task, make_loader, preprocessing_for
from e2vpt.errors import DataError, UnreadableImages


def _folder(root: Path) -> Path:
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (8, 8)).save(root / name / f"{i}.png")
    return root


def _sizes(task: Task) -> list[int]:
    return [len(split) for split in task.splits().values()]


def test_folder_archive_and_table(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "pets")
    with tarfile.open(tmp_path / "pets.tar", "w") as tar:
        tar.add(folder, arcname="pets")
    rows = [f"pets/{name}/{i}.png,{name}" for name in ("a", "b") for i in range(10)]
    (tmp_path / "pets.csv").write_text("\n".join(["path,label", *rows]))
    for source in (folder, str(folder), tmp_path / "pets.tar", tmp_path / "pets.csv"):
        task = load_task(source)
        assert (task.name, task.classes, _sizes(task)) == ("pets", ("a", "b"), [14, 2, 4])


def test_every_broken_image_of_every_split_is_named_unless_told_otherwise(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "pets")
    broken = [folder / "a" / f"{i}.png" for i in range(10)]
    for path in broken:
        path.write_bytes(path.read_bytes()[:40])
    calls: list[tuple[int, int]] = []
    with pytest.raises(UnreadableImages) as caught:
        load_task(folder, DataConfig(), progress=lambda done, total: calls.append((done, total)))
    assert set(caught.value.problems) == set(map(str, broken))
    assert calls[-1] == (20, 20)
    assert _sizes(load_task(folder, verify=False)) == [14, 2, 4]


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere does not exist\. Expected a folder of class folders"):
        load_task(tmp_path / "nowhere")
    for name, remedy in (
        ("pets.zip", r"pets\.zip cannot be read as an archive: File is not a zip file"),
        ("pets.tar.gz", r"pets\.tar\.gz cannot be read as an archive: Not a gzipped file"),
        ("pets.7z", r"pets\.7z is an archive of a kind that is not read\. Unpack it and name the folder"),
        ("pets.tar.xz", r"is an archive of a kind that is not read"),
        ("pets.txt", r"has a format that cannot be read. Expected a folder"),
    ):
        (tmp_path / name).write_bytes(b"PK")
        with pytest.raises(DataError, match=remedy):
            load_task(tmp_path / name)


def test_exported_names_exist_and_are_sorted() -> None:
    assert e2vpt.data.__all__ == sorted(e2vpt.data.__all__)
    assert all(hasattr(e2vpt.data, name) for name in e2vpt.data.__all__)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "num_classes", "sizes"),
    [
        ("clothing10", 10, [800, 200, 713]),
        ("dtd10", 10, [640, 160, 400]),
        ("gtsrb43", 43, [800, 200, 2000]),
        ("trashnet6", 6, [800, 200, 1500]),
    ],
)
def test_real_tasks(shared: Path, name: str, num_classes: int, sizes: list[int]) -> None:
    path = shared / "data" / "tasks" / f"{name}.tar"
    task = load_task(path, verify=False)
    assert (task.name, len(task.classes), _sizes(task)) == (name, num_classes, sizes)
    chosen = task.train.subset(random.Random(0).sample(range(len(task.train)), 12))
    assert all(isinstance(image, ImageFile) and image.path == path for image in chosen.images)
    prep = preprocessing_for({"input_size": (3, 64, 64)}, DataConfig())
    for images, labels in make_loader(chosen, prep, batch_size=6, augment="crop-flip", shuffle=True):
        assert images.shape == (6, 3, 64, 64) and bool(torch.isfinite(images).all())
        assert int(labels.max()) < num_classes
