"""Lists of Stanford Dogs: folders name the breeds; lists that disagree with them are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.fgvc_for_tests import DOGS, write_dog_list, write_dogs

from e2vpt.benchmarks.fgvc.dogs import read_dogs
from e2vpt.data.sources.listing import list_folder
from e2vpt.errors import DataError


def test_dogs(tmp_path: Path) -> None:
    write_dogs(tmp_path)
    lists = read_dogs(list_folder(tmp_path))
    assert lists.class_names == {1: "Chihuahua", 2: "Maltese dog", 3: "soft-coated wheaten terrier"}
    first, last = lists.images[0], lists.images[-1]
    assert first.path == "Images/n02085620-Chihuahua/n02085620_0.jpg"
    assert (first.class_id, first.split, last.class_id, last.split) == (1, "train", 3, "test")


def test_lists_may_lie_in_a_folder_of_their_archives_name(tmp_path: Path) -> None:
    write_dogs(tmp_path / "lists", images=tmp_path)
    assert len(read_dogs(list_folder(tmp_path)).images) == 36


@pytest.mark.parametrize(
    ("paths", "labels", "message"),
    [
        ([f"{DOGS[0]}/1.jpg"], [1, 2], r"test_list\.mat has 1 images in file_list but 2 labels"),
        ([f"{DOGS[0]}/1.jpg"], [2], r"Chihuahua/1\.jpg into class 2; before, class 2 was n02085936-Maltese"),
        ([f"{DOGS[0]}/1.jpg"], [9], r"Chihuahua/1\.jpg into class 9; before, class 9 was .* was class 1\."),
        (
            ["n1-Poodle/1.jpg"],
            [1],
            r"n1-Poodle/1\.jpg into class 1; before, class 1 was n02085620-Chihuahua/",
        ),
        (["Poodle/1.jpg"], [4], r"folders \['Poodle'\] do not name a breed"),
        ([f"{DOGS[0]}/n02085620_0.jpg"], [1], r"the lists name twice:\n  Images/n02085620-Chihuahua/n0208"),
    ],
)
def test_disagreements(tmp_path: Path, paths: list[str], labels: list[int], message: str) -> None:
    write_dogs(tmp_path)
    write_dog_list(tmp_path / "test_list.mat", paths, labels)
    with pytest.raises(DataError, match=message):
        read_dogs(list_folder(tmp_path))
