"""Every method trains in a run, goes on after a kill, is rewound and pruned like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.methods_for_tests import OPTIONS, PROMPTS, every_method, made, moved
from support.tasks_for_tests import write_task

import e2vpt
from e2vpt import PruneConfig, RunConfig, TrainConfig
from e2vpt.adapters.files import load_adapter
from e2vpt.config import MethodConfig
from e2vpt.prompting.parts import find_prompts, tuned_parameters
from e2vpt.pruning.rewinding import rewind, snapshot
from e2vpt.pruning.scores import Scores
from e2vpt.pruning.selection import select
from e2vpt.runs.recipe import train_and_prune
from e2vpt.runs.reporting import Reporting
from e2vpt.runs.run import train_run

pytestmark = pytest.mark.usefixtures("one_thread")


@every_method
def test_it_trains_in_a_run_like_any_other(method: str, tmp_path: Path) -> None:
    task = e2vpt.load_task(write_task(tmp_path / "shapes"))
    config = RunConfig(
        backbone="demo",
        method=method,
        prompts=PROMPTS,
        options=OPTIONS,
        train=TrainConfig(epochs=2, batch_size=9),
    )
    done = train_run(task, config, tmp_path / "run")
    assert len(done.result.history) == 2
    loaded, info = load_adapter(done.adapter)
    assert info.method == method and info.classes == task.classes
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(images), done.model(images))

    def stop(_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(task, config, tmp_path / "broken", reporting=Reporting(on_epoch=stop))
    train_run(task, config, tmp_path / "broken", resume=True)
    assert (tmp_path / "broken/adapter.safetensors").read_bytes() == done.adapter.read_bytes()


@pytest.mark.parametrize("beside", ["bias", "scale"])
def test_rewinding_brings_back_what_is_tuned_beside(beside: str) -> None:
    model = made("vit", "e2vpt", MethodConfig(beside=beside))
    origin = snapshot(model)
    moved(model)
    moved_biases = {name: p.detach().clone() for name, p in tuned_parameters(model).items()}
    scores = Scores(
        tokens=(torch.arange(4.0),) * 3,
        segments=(torch.ones(4, 1),) * 3,
        key_value=(torch.zeros(3),) * 3,
        shared=False,
        layout="strided",
    )
    rewind(model, origin, select(scores, tokens=0.5, segments=1.0))
    for name, parameter in tuned_parameters(model).items():
        assert torch.equal(parameter, origin.beside[name]) and not torch.equal(parameter, moved_biases[name])
    assert {layer.num_visual for layer in find_prompts(model)} == {2}


@pytest.mark.parametrize("beside", ["bias", "scale"])
def test_prompts_and_what_is_beside_are_pruned(beside: str, tmp_path: Path) -> None:
    task = e2vpt.load_task(write_task(tmp_path / "shapes"))
    config = RunConfig(
        backbone="demo",
        prompts=PROMPTS,
        options=MethodConfig(beside=beside),
        train=TrainConfig(epochs=1, batch_size=9),
    )
    pruned = train_and_prune(task, config, PruneConfig(num_segments=4, tolerance=1.0), tmp_path / "run")
    loaded, info = load_adapter(pruned.trained.adapter)
    assert info.visual_kept <= 0.5 and info.options.beside == beside
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(images), pruned.trained.model(images))
