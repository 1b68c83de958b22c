"""A training whose numbers are no longer finite stops, and what was good stays."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from support.fitting_for_tests import config
from support.tasks_for_tests import batches, tiny_vit
from torch import nn

from e2vpt import fit
from e2vpt.errors import Diverged, RunError
from e2vpt.files.container import read_container


def load_history(path: Path) -> list[object]:
    history: list[object] = json.loads(bytes(read_container(path)[1]["history"].tolist()))
    return history


def test_a_training_that_breaks_stops_and_keeps_what_was(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    data = batches([5])

    def poison(_: object) -> None:
        data[0][0].fill_(math.nan)

    with pytest.raises(
        RunError, match=r"Epoch 2 gave train_loss that is not a finite number.*Lower the learning"
    ):
        fit(tiny_vit(), data, config=config(epochs=3), checkpoint=path, on_epoch=poison)
    assert len(load_history(path)) == 1


@pytest.mark.parametrize("validates", [True, False])
@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 1e30), ("sgd", 1e38), ("adamw", 1e38)])
def test_nothing_is_written_of_a_training_that_leaves_no_numbers(
    tmp_path: Path, optimizer: str, lr: float, validates: bool
) -> None:
    """Without validation nobody has seen what the last step made; its loss came before."""
    path, model, told = tmp_path / "checkpoint.safetensors", tiny_vit(torch.float32), []
    data = batches([6], torch.float32)
    settings = config(epochs=3, optimizer=optimizer, lr=lr, warmup=0.0)
    with pytest.raises(Diverged, match=r"Epoch \d gave .* not a finite number.*Lower the learning rate"):
        fit(model, data, data if validates else None, settings, checkpoint=path, on_epoch=told.append)
    if path.exists():
        assert all(bool(t.isfinite().all()) for t in read_container(path)[1].values())
        assert len(load_history(path)) == len(told[-1])
    else:
        assert not told


def test_a_broken_optimizer_state_is_not_kept(tmp_path: Path) -> None:
    """Its next steps would be of no number, or none at all."""
    model = nn.Linear(1, 2, bias=False)
    loud = [(torch.full((2, 1), 1e25), torch.tensor([0, 1]))]
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Diverged, match="a parameter or its gradients"):
        fit(model, loud, config=config(epochs=1, lr=1e-30), checkpoint=path)
    assert not path.exists()
