"""Adapter files that an earlier version wrote still load and give the logits they gave then.

The three files of `earlier/` were written by commit 0a77594, from small trainings of the shipped backbone:
prompts pruned to half with biases in fp16, LoRA, and shallow prompts with separate keys and values.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.adapter_files import PREPROCESSING, with_tensors
from support.backbones_for_tests import images_for, tiny_vit

import e2vpt
from e2vpt.errors import BackboneMismatch

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


@pytest.mark.parametrize("beside", ["bias", "scale"])
def test_biases_of_keys_that_no_softmax_sees_are_not_missed(beside: str, tmp_path: Path) -> None:
    """Earlier versions stored them also without key-value prompts."""
    prompts, options = e2vpt.PromptConfig(num_visual=2, num_kv=0), e2vpt.MethodConfig(beside=beside)
    model = e2vpt.adapt(tiny_vit(torch.float32), "e2vpt", prompts, options)
    path, earlier = tmp_path / "now.safetensors", tmp_path / "earlier.safetensors"
    e2vpt.save_adapter(model, path, preprocessing=PREPROCESSING)
    longer = {
        f"tuned.blocks.{i}.attn.qkv.bias": torch.cat([bias[:48], torch.full((48,), 3.0), bias[48:]])
        for i, bias in enumerate(block.attn.qkv.bias.detach() for block in model.blocks)
    }
    loaded, info = e2vpt.load_adapter(with_tensors(path, earlier, longer), tiny_vit(torch.float32))
    images = images_for(model)
    assert torch.equal(loaded(images), model.eval()(images))
    assert info.num_tuned == e2vpt.read_adapter(path).num_tuned + 3 * 48
    name = "tuned.blocks.0.attn.qkv.bias"
    other = with_tensors(path, earlier, {name: torch.zeros(100)})
    with pytest.raises(BackboneMismatch, match=r"qkv.bias has shape \(100,\), this backbone needs \(96,\)"):
        e2vpt.load_adapter(other, tiny_vit(torch.float32))
