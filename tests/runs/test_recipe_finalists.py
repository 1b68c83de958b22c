"""Several prunings trained again: validation decides, and what was decided is what is left."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from support.tasks_for_tests import write_task

import e2vpt
from e2vpt import PromptConfig, PruneConfig, RunConfig, TrainConfig, load_adapter
from e2vpt.runs import trying
from e2vpt.runs.recipe import train_and_prune

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = RunConfig(
    backbone="demo",
    prompts=PromptConfig(num_visual=4, num_kv=2),
    train=TrainConfig(epochs=1, batch_size=9, lr=0.01),
)


@pytest.mark.parametrize("winner", [0, 1])
def test_the_finalist_that_validation_prefers_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, winner: int
) -> None:
    task = e2vpt.load_task(write_task(tmp_path / "shapes"))
    real = trying.evaluate
    # The unpruned prompts, three trials, two finalists.
    scored = iter([0.9, 0.5, 0.5, 0.5, *((0.8, 0.6) if winner == 0 else (0.6, 0.8))])

    def evaluate(*args: Any, **options: Any) -> Any:
        return dataclasses.replace(real(*args, **options), accuracy=next(scored))

    monkeypatch.setattr(trying, "evaluate", evaluate)
    pruned = train_and_prune(task, CONFIG, PruneConfig(finalists=2, tolerance=0.2), tmp_path / "run")
    assert [row.chosen for row in pruned.tried] == [False] * 4 + [winner == 0, winner == 1]
    row = pruned.tried[4 + winner]
    folder = tmp_path / "run/prune" / f"{row.tokens:.3f}-{row.segments:.3f}"
    adapter = (tmp_path / "run/adapter.safetensors").read_bytes()
    assert adapter == (folder / "adapter.safetensors").read_bytes()
    kept, _ = load_adapter(tmp_path / "run/adapter.safetensors")
    states = (kept.state_dict(), pruned.trained.model.state_dict())
    assert states[0].keys() == states[1].keys()
    assert all(tensor.equal(states[1][name]) for name, tensor in states[0].items())
