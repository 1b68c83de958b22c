"""What the optimizer makes of the settings; the loop around it is tested in test_fit."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from support.fitting_for_tests import Labelled
from support.tasks_for_tests import batches, tiny_vit
from torch import nn
from torch.nn import functional as F

from e2vpt import fit
from e2vpt.config import TrainConfig
from e2vpt.errors import ConfigError
from e2vpt.training.optimizer import make_optimizer


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_scales_do_not_decay(optimizer: str) -> None:
    parameters = {name: nn.Parameter(torch.ones(2)) for name in ("fc1.bias", "fc1.scale", "head.weight")}
    config = TrainConfig(optimizer=optimizer, weight_decay=0.5, lr=0.1)
    made = make_optimizer(parameters, config, nn.Identity())
    for parameter in parameters.values():
        parameter.grad = torch.zeros(2)
    made.step()
    assert {name: bool((p < 1).all()) for name, p in parameters.items()} == {
        "fc1.bias": True,
        "fc1.scale": False,
        "head.weight": True,
    }


def test_the_head_may_have_a_learning_rate_of_its_own() -> None:
    model = tiny_vit()
    expected = copy.deepcopy(model)
    images, labels = batches([8])[0]
    settings = TrainConfig(epochs=3, lr=0.01, optimizer="sgd", warmup=0.0, momentum=0.0, head_lr_scale=0.25)
    fit(model, [(images, labels)], config=settings)
    head = {id(p) for p in expected.head.parameters()}
    trained = [p for p in expected.parameters() if p.requires_grad]
    for lr in (0.01, 0.0075, 0.0025):
        loss = F.cross_entropy(expected(images), labels, label_smoothing=0.1)
        for parameter, gradient in zip(trained, torch.autograd.grad(loss, trained), strict=True):
            with torch.no_grad():
                own = lr / 4 if id(parameter) in head else lr
                parameter.sub_(own * (gradient + 1e-4 * parameter))
    for one, other in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(768, 3)).double()
    with pytest.raises(ConfigError, match="head_lr_scale: Sequential has no get_classifier"):
        fit(plain, [(images, labels)], config=settings)


def test_a_class_without_images_has_no_infinite_weight() -> None:
    images, labels = batches([8])[0]
    some = Labelled([(images, labels % 2)])
    assert set(some.labels) == {0, 1}
    result = fit(tiny_vit(), some, config=TrainConfig(epochs=1, class_weights="balanced"))
    assert math.isfinite(result.history[0]["train_loss"])
