"""Prompts survive state dicts, copies, pickles and moves between devices."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from support.backbones_for_tests import MODELS, images_for, prompted, tiny_vit, tuned
from support.prompting_for_tests import each_model, made
from torch import nn

import e2vpt

pytestmark = pytest.mark.usefixtures("one_thread")


@each_model
def test_state_dict_keeps_timms_keys(kind: str) -> None:
    backbone, model = MODELS[kind][0](), made(kind)
    ours, timms = model.state_dict(), backbone.state_dict()
    assert [name for name in ours if ".prompts." not in name] == list(timms)
    assert all(
        name.rsplit(".", 1)[1] in ("visual", "key", "value", "gate", "keep")
        for name in set(ours) - set(timms)
    )
    other = made(kind)
    for parameter in other.parameters():
        parameter.data.zero_()
    result = other.load_state_dict(timms, strict=False)
    assert not result.unexpected_keys and all(".prompts." in name for name in result.missing_keys)
    other.load_state_dict(ours, strict=True)
    images = images_for(model)
    assert torch.equal(other(images), model(images))


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("share", [False, True])
def test_loading_keeps_keys_and_values_shared(assign: bool, share: bool) -> None:
    model, other = (
        made("vit", share_kv=share),
        prompted(tiny_vit(), seed=8, num_visual=3, num_kv=2, share_kv=share),
    )
    other.load_state_dict(model.state_dict(), assign=assign)
    assert all((layer.key is layer.value) is share for layer in e2vpt.prompt_layers(other))
    assert torch.equal(other(images_for(model)), model(images_for(model)))
    assert sum(p.numel() for p in tuned(other).values()) == sum(p.numel() for p in tuned(model).values())


def test_moving_off_the_meta_device_keeps_keys_and_values_shared() -> None:
    with torch.device("meta"):
        model = e2vpt.prompt(tiny_meta(), e2vpt.PromptConfig(num_visual=2, num_kv=2))
    model.to_empty(device="cpu")
    assert all(layer.key is layer.value for layer in e2vpt.prompt_layers(model))


def tiny_meta() -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3, num_classes=7)


@each_model
def test_copies_and_pickles_are_whole_and_apart(kind: str) -> None:
    model = made(kind)
    images = images_for(model)
    expected = model(images)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(images), expected)
        assert torch.equal(other.forward_features(images), model.forward_features(images))
        assert [layer.key is layer.value for layer in e2vpt.prompt_layers(other)] == [
            layer.key is layer.value for layer in e2vpt.prompt_layers(model)
        ]
        ids = {id(p) for p in model.parameters()}
        assert not any(id(p) in ids for p in other.parameters())
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
            other.zero_grad()
        assert not torch.equal(other(images), expected)
        assert torch.equal(model(images), expected)
