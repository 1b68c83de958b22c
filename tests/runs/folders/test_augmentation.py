"""The answer about augmentation that a run keeps: written, read back, refused where it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2vpt import DataConfig, RunConfig
from e2vpt.errors import RunError
from e2vpt.runs.folders.augmentation import AUGMENTATION, Borne, augmentation_of, read_borne, write_borne

FOUND = Borne(plain=0.9, mirrored=0.4, shifted=0.85, augment="shift")


def test_an_answer_comes_back_as_it_was(tmp_path: Path) -> None:
    assert read_borne(tmp_path) is None
    write_borne(tmp_path, FOUND)
    assert read_borne(tmp_path) == FOUND
    assert "mirrored images 40.0%" in str(FOUND) and str(FOUND).endswith("'shift'")


def test_the_augmentation_of_a_run_is_its_answer_or_what_it_was_told(tmp_path: Path) -> None:
    told = RunConfig(backbone="demo", data=DataConfig(augment="flip"))
    assert augmentation_of(tmp_path, told) == "flip"
    asks = RunConfig(backbone="demo", data=DataConfig(augment="auto"))
    assert augmentation_of(tmp_path, asks) == "none"
    write_borne(tmp_path, FOUND)
    assert augmentation_of(tmp_path, asks) == "shift"


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"plain": 1}', '{"plain": 1, "mirrored": 1, "shifted": 1, "augment": "auto"}']
)
def test_an_answer_that_cannot_be_read_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / AUGMENTATION).write_text(content)
    with pytest.raises(RunError, match=r"augmentation\.json .* asks its model again"):
        read_borne(tmp_path)
