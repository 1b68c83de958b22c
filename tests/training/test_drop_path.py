"""Stochastic depth: timm's own, drawn as in a backbone that was created with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.backbones_for_tests import images_for, tiny_swin, tiny_vit
from timm.layers import DropPath
from torch import nn

import e2vpt
from e2vpt import TrainConfig, fit
from e2vpt.errors import ConfigError
from e2vpt.training.checkpoint import trained_state
from e2vpt.training.drop_path import DroppedPaths

pytestmark = pytest.mark.usefixtures("one_thread")

KINDS: dict[str, Any] = {"vit": tiny_vit, "swin": tiny_swin}
CONFIGS = {
    "vit": {},
    "vit-shallow": {"visual_depth": "shallow"},
    "swin": {},
    "swin-pooled": {"pool_prompts": True},
}


def rates(model: nn.Module) -> list[float]:
    return [m.drop_prob for m in model.modules() if isinstance(m, DropPath)]


@pytest.mark.parametrize("kind", CONFIGS)
def test_it_is_that_of_a_backbone_created_with_it(kind: str) -> None:
    make, found = KINDS[kind.split("-")[0]], []
    for created, asked in ((0.0, 0.5), (0.5, 0.0)):
        torch.manual_seed(0)
        config = e2vpt.PromptConfig(num_visual=2, num_kv=2, **CONFIGS[kind])
        model = e2vpt.prompt(make(torch.float32, drop_path_rate=created), config)
        before = rates(model)
        data = [(images_for(model, batch=6), torch.arange(6) % 3)] * 2
        history = fit(model, data, data, TrainConfig(epochs=2, lr=0.01, drop_path=asked)).history
        assert rates(model) == before
        found.append((history, trained_state(model)))
    (history, state), (other_history, other_state) = found
    assert history == other_history
    assert all(torch.equal(state[name], tensor) for name, tensor in other_state.items())
    with DroppedPaths(model, 0.5):
        assert rates(model) == before  # those it was created with


def test_none_leaves_a_model_as_it_was_created() -> None:
    model = tiny_vit(drop_path_rate=0.3)
    with DroppedPaths(model, 0.0):
        assert max(rates(model)) == pytest.approx(0.3)
    with DroppedPaths(model, 0.1):
        assert max(rates(model)) == pytest.approx(0.1)
    assert max(rates(model)) == pytest.approx(0.3)


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match="drop_path: Linear has no blocks"):
        DroppedPaths(nn.Linear(2, 2), 0.1)
