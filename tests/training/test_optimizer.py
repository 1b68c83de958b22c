"""What the optimizer makes of the settings; the loop around it is tested in test_fit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from e2vpt.config import TrainConfig
from e2vpt.training.optimizer import make_optimizer


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_scales_do_not_decay(optimizer: str) -> None:
    parameters = {name: nn.Parameter(torch.ones(2)) for name in ("fc1.bias", "fc1.scale", "head.weight")}
    config = TrainConfig(optimizer=optimizer, weight_decay=0.5, lr=0.1)
    made = make_optimizer(parameters, config)
    for parameter in parameters.values():
        parameter.grad = torch.zeros(2)
    made.step()
    assert {name: bool((p < 1).all()) for name, p in parameters.items()} == {
        "fc1.bias": True,
        "fc1.scale": False,
        "head.weight": True,
    }
