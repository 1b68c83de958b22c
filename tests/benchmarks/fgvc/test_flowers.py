"""Lists of Oxford Flowers: names in the right order; sets that do not add up are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from support.fgvc_for_tests import write_flowers
from torchvision.datasets import Flowers102

from e2vpt.benchmarks.fgvc.flowers import flower_names, read_flowers
from e2vpt.data.sources.listing import list_folder
from e2vpt.errors import DataError, MissingExtra


def test_names_are_distinct_and_plain() -> None:
    names = flower_names()
    assert len(set(names)) == 102 and names[0] == "pink primrose" and names[59] == "pink-yellow dahlia"
    assert not [
        name for name in names if not name.replace("'", "").replace("-", "").replace(" ", "").isalpha()
    ]


def test_a_torchvision_without_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Flowers102, "classes")
    with pytest.raises(MissingExtra, match=r"pip install 'e2vpt\[bench\]'"):
        flower_names()


def test_flowers(tmp_path: Path) -> None:
    write_flowers(tmp_path)
    lists = read_flowers(list_folder(tmp_path))
    assert lists.class_names == {1: "pink primrose", 2: "hard-leaved pocket orchid", 102: "blackberry lily"}
    assert [image.class_id for image in lists.images[:3]] == [1, 2, 102]
    assert [image.split for image in lists.images[::3]] == ["train", "val", "test", "test"] * 2
    assert lists.images[23].path == "jpg/image_00024.jpg"


@pytest.mark.parametrize("label", [0, 103])
def test_an_unknown_class(tmp_path: Path, label: int) -> None:
    write_flowers(tmp_path)
    savemat(tmp_path / "imagelabels.mat", {"labels": np.array([[1] * 23 + [label]])})
    with pytest.raises(DataError, match=rf"imagelabels\.mat has classes \[{label}\]; expected 1 to 102"):
        read_flowers(list_folder(tmp_path))


@pytest.mark.parametrize(
    ("train", "val", "test", "message"),
    [
        (
            range(1, 9),
            range(9, 17),
            range(17, 24),
            r"setid\.mat has 23 images, imagelabels\.mat 24; .*:\n  24\n",
        ),
        (range(1, 9), range(8, 17), range(17, 25), r"has 25 images, imagelabels\.mat 24; .*:\n  8\n"),
        (range(9), range(9, 17), range(17, 25), r"has 25 images, imagelabels\.mat 24; .*:\n  0\n"),
        (range(1, 9), range(9, 17), [*range(17, 24), 25], r"has 24 images, .*:\n  24\n  25\n"),
        (range(1, 9), range(9, 17), [*range(17, 25), 30, 30], r"has 26 images, .*:\n  30\n"),
    ],
)
def test_sets_that_do_not_add_up(
    tmp_path: Path, train: list[int], val: list[int], test: list[int], message: str
) -> None:
    write_flowers(tmp_path)
    sets = {"trnid": np.array(train), "valid": np.array(val), "tstid": np.array(test)}
    savemat(tmp_path / "setid.mat", sets)
    with pytest.raises(DataError, match=message):
        read_flowers(list_folder(tmp_path))
