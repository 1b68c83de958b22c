"""Models on devices, and devices that are none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from e2vpt.backbones.placing import default_device, placed
from e2vpt.errors import ConfigError


def test_a_model_is_moved_itself() -> None:
    model = nn.Linear(2, 2)
    assert placed(model, "cpu", torch.bfloat16) is model
    assert model.weight.dtype == torch.bfloat16
    assert placed(model).weight.device.type == torch.device(default_device()).type


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta:x", ""])
def test_a_device_that_cannot_be_used(device: str) -> None:
    with pytest.raises(ConfigError, match=f"device is '{device}', which cannot be used here"):
        placed(nn.Linear(2, 2), device)
