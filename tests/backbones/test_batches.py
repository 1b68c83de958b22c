"""Scores take the batches that `fit` and `evaluate` take, and refuse what these refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.backbones_for_tests import images_for
from support.pruning_for_tests import made

import e2vpt
from e2vpt.errors import ConfigError
from e2vpt.pruning.scores import score

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    "labels",
    [torch.tensor([3, 6], dtype=torch.int32), torch.tensor([3, 6]).byte(), [3, 6], np.array([3, 6])],
    ids=["int32", "uint8", "list", "numpy"],
)
def test_whole_numbers_of_every_kind_are_labels(labels: Any) -> None:
    model = made()
    images = images_for(model)
    found = score(model, [(images, labels)], num_segments=8)
    expected = score(model, [[images, torch.tensor([3, 6])]], num_segments=8)
    assert torch.equal(found.tokens[0], expected.tokens[0])
    assert e2vpt.evaluate(model, [(images, labels)]).num_images == 2


IMAGES = torch.zeros(2, 3, 32, 32, dtype=torch.float64)
REFUSED: dict[str, tuple[Any, str]] = {
    "soft": ((IMAGES, torch.eye(2, 7)), r"expected \[2\] of int64, found \[2, 7\] of float32"),
    "float": ((IMAGES, torch.tensor([0.0, 1.0])), r"found \[2\] of float32"),
    "bool": ((IMAGES, torch.tensor([True, False])), r"found \[2\] of bool"),
    "too-few": ((IMAGES, torch.tensor([1])), r"expected \[2\] of int64, found \[1\]"),
    "names": ((IMAGES, ["cat", "dog"]), "whole numbers, one for each image; found"),
    "no-labels": ((IMAGES,), "pair .images, labels. of tensors"),
    "a-dictionary": ({"images": IMAGES, "labels": torch.tensor([0, 1])}, "pair .images, labels. of tensors"),
    "too-high": ((IMAGES, torch.tensor([0, 7])), "labels go from 0 to 7; the model.* 7"),
    "negative": ((IMAGES, torch.tensor([-100, 1])), "labels go from -100 to 1; the model.* 7"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_other_batches_are_refused(what: str) -> None:
    batch, message = REFUSED[what]
    model = made()
    with pytest.raises(ConfigError, match=message):
        score(model, [batch], num_segments=8)
    with pytest.raises(ConfigError, match=message):
        e2vpt.evaluate(model, [batch])
