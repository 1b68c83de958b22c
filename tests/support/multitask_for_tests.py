"""Adapters of many kinds with the models they were saved from, to compare batches of many tasks with."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from support.backbones_for_tests import relative, tuned
from torch import Tensor, nn

import e2vpt
from e2vpt import MethodConfig, MultiTask, PromptConfig

CLOSE = 1e-5


def adapter(
    path: Path, backbone: nn.Module, seed: int, method: str = "e2vpt", beside: str = "auto", **prompts: Any
) -> nn.Module:
    """An adapter file of a task with random values; the model it was saved from."""
    torch.manual_seed(seed)
    model = copy.deepcopy(backbone)
    model.reset_classifier(2 + seed % 5)  # type: ignore[operator]
    e2vpt.adapt(model, method, PromptConfig(**prompts), MethodConfig(beside=beside))
    with torch.no_grad():
        for parameter in tuned(model).values():
            parameter.add_(0.3 * torch.randn(parameter.shape))
        for layer in model.modules():
            keep = getattr(layer, "keep", None)
            if isinstance(keep, Tensor):
                keep[:, seed % 3 :: 4] = 0
    e2vpt.save_adapter(model, path, preprocessing=_preprocessing(model))
    return model.eval()


def _preprocessing(model: nn.Module) -> e2vpt.Preprocessing:
    size = tuple(model.patch_embed.img_size)  # type: ignore[union-attr, arg-type]
    return e2vpt.Preprocessing(image_size=size, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))  # type: ignore[arg-type]


def expected(models: dict[str, nn.Module], images: Tensor, names: list[str]) -> list[Tensor]:
    """Every image through its own model, alone."""
    with torch.no_grad():
        return [models[name](image[None])[0] for image, name in zip(images, names, strict=True)]


def assert_close(found: list[Tensor], wanted: list[Tensor]) -> None:
    """Image by image, of the same shapes."""
    assert [f.shape for f in found] == [w.shape for w in wanted]
    assert max(relative(f, w) for f, w in zip(found, wanted, strict=True)) < CLOSE


def loaded(backbone: nn.Module, folder: Path, **limits: int) -> MultiTask:
    """All three tasks on a copy of their backbone."""
    tasks = MultiTask(copy.deepcopy(backbone), **limits)
    for name in "abc":
        tasks.load(name, folder / name)
    return tasks
