"""The fine-grained data sets in a directory: as published, in part, damaged, or split otherwise."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from support.fgvc_for_tests import write_cub, write_dogs, write_flowers, write_vpt_json
from support.published_for_tests import verdict_on

from e2vpt.benchmarks.fgvc import read as fgvc
from e2vpt.benchmarks.fgvc.read import FGVC
from e2vpt.benchmarks.suite.check import check_fgvc_sets


@pytest.fixture
def birds_and_dogs(tmp_path: Path) -> Path:
    """Two of the five data sets, of three classes each."""
    write_cub(tmp_path / "CUB_200_2011")
    write_dogs(tmp_path / "stanford-dogs")
    return tmp_path


def test_small_fgvc_data(birds_and_dogs: Path) -> None:
    heard: list[str] = []
    check = check_fgvc_sets(str(birds_and_dogs), on_task=heard.append)
    assert [task.name for task in check.tasks] == heard == list(FGVC)
    states = [task.state for task in check.tasks]
    assert states == ["differs", "missing", "missing", "differs", "missing"]
    cub, nabirds = check.tasks[:2]
    assert (cub.group, cub.source, cub.num_classes, cub.formats) == ("fgvc", "archives", 3, "JPEG")
    assert cub.counts == {"train": 27, "val": 3, "test": 6}
    assert cub.problems[0] == "3 classes; published are 200." and len(cub.problems) == 4
    assert nabirds.problems == ("no data; expected a folder nabirds. Unpack it there.",)


def test_fgvc_as_published(birds_and_dogs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"train": 27, "val": 3, "test": 6}
    small = dataclasses.replace(fgvc.DATA_SETS["cub-200-2011"], classes=3, images=sizes)
    monkeypatch.setitem(fgvc.DATA_SETS, "cub-200-2011", small)  # type: ignore[arg-type]
    cub = verdict_on(check_fgvc_sets(birds_and_dogs), "cub-200-2011")
    assert (cub.state, cub.problems) == ("ok", ())


def test_fgvc_with_an_image_missing(birds_and_dogs: Path) -> None:
    images = sorted((birds_and_dogs / "CUB_200_2011" / "images").rglob("*.jpg"))
    images[0].unlink()
    cub = verdict_on(check_fgvc_sets(birds_and_dogs), "cub-200-2011")
    assert cub.state == "broken" and images[0].name in cub.problems[0]
    images[0].write_bytes(b"")
    cub = verdict_on(check_fgvc_sets(birds_and_dogs), "cub-200-2011")
    assert (cub.state, cub.counts["test"]) == ("broken", 6)
    assert "not readable (the file is empty (0 bytes))" in cub.problems[0]


def test_fgvc_splits_that_part_from_the_official_ones(tmp_path: Path) -> None:
    images = sorted(write_flowers(tmp_path / "flowers"))
    labels = {path: (0, 1, 2)[i % 3] for i, path in enumerate(images)}
    splits = {"train": images[:9], "val": images[9:18], "test": images[18:]}
    write_vpt_json(
        tmp_path / "flowers",
        {split: {path: labels[path] for path in paths} for split, paths in splits.items()},
    )
    flowers = verdict_on(check_fgvc_sets(tmp_path), "oxford-flowers")
    assert flowers.counts == {"train": 9, "val": 9, "test": 6}
    assert flowers.problems[-1].startswith("test.json lacks 6 images of the official test split")
