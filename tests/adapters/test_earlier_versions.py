"""Adapter files that an earlier version wrote still load and give the logits they gave then.

The three files of `earlier/` were written by commit 0a77594, from small trainings of the shipped backbone:
prompts pruned to half with biases in fp16, LoRA, and shallow prompts with separate keys and values.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import e2vpt

EARLIER = Path(__file__).parent / "earlier"


@pytest.mark.parametrize("name", ["pruned", "lora", "shallow"])
def test_gives_the_logits_it_gave_then(name: str) -> None:
    model, info = e2vpt.load_adapter(EARLIER / f"{name}.safetensors")
    assert info.classes == ("bars", "disc", "ring")
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = model.eval().double()(images.double()).numpy()
    expected = np.load(EARLIER / "logits.npz")[name]
    assert np.abs(found - expected).max() < 1e-9 * np.abs(expected).max()
