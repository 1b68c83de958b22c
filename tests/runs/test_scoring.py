"""What pruning asks of its scores reaches them, and their file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.tasks_for_tests import write_task

import e2vpt
from e2vpt import PromptConfig, PruneConfig, RunConfig, TrainConfig
from e2vpt.pruning.score_files import load_scores
from e2vpt.runs.prepare import Prepared, prepare
from e2vpt.runs.reporting import Reporting
from e2vpt.runs.scoring import scores_of

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = RunConfig(
    backbone="demo", prompts=PromptConfig(num_visual=4, num_kv=2), train=TrainConfig(epochs=1, batch_size=9)
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A run at its initial values; not to be changed."""
    return prepare(e2vpt.load_task(write_task(tmp_path_factory.mktemp("data") / "shapes")), CONFIG)


def stored(prepared: Prepared, path: Path, **settings: Any) -> e2vpt.pruning.Scores:
    """The scores in the file that asking for them leaves."""
    scores_of(prepared, PruneConfig(**settings), path, "", Reporting())
    found = load_scores(path, {})
    assert found is not None
    return found


def test_scores_are_of_the_layout_and_the_masks_asked_for(prepared: Prepared, tmp_path: Path) -> None:
    usual = stored(prepared, tmp_path / "usual")
    assert (usual.layout, usual.shared, usual.segments[0].shape) == ("strided", False, (4, 16))
    other = stored(prepared, tmp_path / "other", layout="contiguous", masks="shared", num_segments=8)
    assert (other.layout, other.shared, other.segments[0].shape) == ("contiguous", True, (4, 8))
    neighbours = stored(prepared, tmp_path / "neighbours", layout="contiguous")
    assert not torch.allclose(neighbours.segments[0], usual.segments[0])


def test_signed_scores_may_be_below_zero(prepared: Prepared, tmp_path: Path) -> None:
    for signed in (False, True):
        scores = stored(prepared, tmp_path / f"{signed}", signed_scores=signed)
        assert any(bool((part < 0).any()) for part in scores.tokens) is signed
