"""Images in two classes or two splits are named; repeats that do no harm, and equal sizes, are not."""

from __future__ import annotations

import shutil
from pathlib import Path

from PIL import Image

from e2vpt.config import DataConfig
from e2vpt.data.sources.load import load_task
from e2vpt.data.sources.repeats import repeated_images


def test_images_in_two_classes_or_two_splits_are_named(tmp_path: Path) -> None:
    for i, folder in enumerate(("train/a", "train/b", "val/a", "test/b")):
        (tmp_path / folder).mkdir(parents=True)
        for k in range(3):
            Image.new("RGB", (4, 4), (50 * i + k, 0, 0)).save(tmp_path / folder / f"{k}.bmp")
    assert repeated_images(load_task(tmp_path, DataConfig(), verify=False)) == []
    shutil.copy(tmp_path / "train/a/0.bmp", tmp_path / "train/a/again.bmp")
    assert repeated_images(load_task(tmp_path, DataConfig(), verify=False)) == []
    shutil.copy(tmp_path / "train/a/1.bmp", tmp_path / "train/b/other.bmp")
    shutil.copy(tmp_path / "train/b/2.bmp", tmp_path / "test/b/leak.bmp")
    found = sorted(repeated_images(load_task(tmp_path, DataConfig(), verify=False)))
    assert found == [
        f"{tmp_path}/train/a/1.bmp (train, a) = {tmp_path}/train/b/other.bmp (train, b)",
        f"{tmp_path}/train/b/2.bmp (train, b) = {tmp_path}/test/b/leak.bmp (test, b)",
    ]
