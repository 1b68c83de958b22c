"""The line that says how much is trained."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from e2vpt.methods.counting import print_trainable_parameters, trainable_line


def test_counts_what_requires_grad(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(nn.Linear(100, 10), nn.Linear(10, 3))
    model[0].requires_grad_(False)
    expected = "trainable params: 33 || all params: 1,043 || trainable%: 3.1640"
    assert trainable_line(model) == expected
    print_trainable_parameters(model)
    assert capsys.readouterr().out == f"{expected}\n"


def test_a_model_without_parameters() -> None:
    assert trainable_line(nn.ReLU()) == "trainable params: 0 || all params: 0 || trainable%: 0.0000"
    assert trainable_line(nn.Embedding(2, 2, _weight=torch.ones(2, 2))).startswith("trainable params: 4 ")
