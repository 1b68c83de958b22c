"""Frozen weights in bf16 compute what autocast computes, to the bit, and come back as they were."""

from __future__ import annotations

import pytest
import torch
from support.backbones_for_tests import gradients, images_for, prompted, tiny_swin, tiny_vit

from e2vpt.training.frozen import HeldFrozen

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("make", [tiny_vit, tiny_swin])
def test_held_in_bf16_is_autocast_to_the_bit(make: type) -> None:
    model = prompted(make(torch.float32), num_visual=4, num_kv=3).train()
    images = images_for(model)

    def compute() -> list[torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(images)
        return [logits, *gradients(model, logits.float().square().sum()).values()]

    expected = compute()
    before = {name: (p.data_ptr(), p.detach().clone()) for name, p in model.named_parameters()}
    with HeldFrozen(model, torch.bfloat16):
        dtypes = {p.dtype for name, p in model.named_parameters() if "mlp" in name and "weight" in name}
        assert dtypes == {torch.bfloat16}
        assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)
        found = compute()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    for name, parameter in model.named_parameters():
        assert (parameter.data_ptr(), parameter.dtype) == (before[name][0], torch.float32)
        assert torch.equal(parameter, before[name][1])


def test_they_come_back_after_an_error() -> None:
    model = prompted(tiny_vit(torch.float32), num_visual=1, num_kv=0)
    with pytest.raises(RuntimeError, match="stop"), HeldFrozen(model, torch.bfloat16):
        raise RuntimeError("stop")
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_none_and_other_precisions_are_left_alone() -> None:
    model = prompted(tiny_vit(torch.float32), num_visual=1, num_kv=0)
    with HeldFrozen(model, None):
        assert {p.dtype for p in model.parameters()} == {torch.float32}
    with HeldFrozen(model.double(), torch.bfloat16):
        assert {p.dtype for p in model.parameters()} == {torch.float64}


def test_entered_again_the_same_memory_serves() -> None:
    model = prompted(tiny_vit(torch.float32), num_visual=1, num_kv=0)
    held, seen = HeldFrozen(model, torch.bfloat16), []
    for _ in range(2):
        with held:
            seen.append([p.data_ptr() for p in model.parameters()])
    assert seen[0] == seen[1]
