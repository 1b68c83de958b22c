"""Models of a small task, for explanations."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from support.backbones_for_tests import randomise, tiny_swin, tiny_vit
from torch import nn

import e2vpt
from e2vpt.adapters.files import read_adapter
from e2vpt.data import Preprocessing
from e2vpt.prompting.parts import find_prompts
from e2vpt.runs.models.task_model import TaskModel

CLASSES = ("cat", "<img src=x onerror=window.hacked=1>", "fox", "$x_2$ & owl")
PREPROCESSING = Preprocessing(image_size=(32, 32), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def task_model(folder: Path, kind: str) -> TaskModel:
    """A tiny ViT, float32, adapted by the method `kind`; or a tiny Swin with prompts."""
    backbone: nn.Module = (tiny_swin if kind == "swin" else tiny_vit)(torch.float32, num_classes=len(CLASSES))
    config = e2vpt.PromptConfig(num_visual=3, num_kv=2, init="uniform")
    model = copy.deepcopy(backbone)
    e2vpt.adapt(model, "e2vpt" if kind == "swin" else kind, config)
    for layer in find_prompts(model):
        randomise(layer)
    path = folder / f"{kind}.safetensors"
    e2vpt.save_adapter(model, path, classes=list(CLASSES), preprocessing=PREPROCESSING)
    return TaskModel(model=model.eval(), info=read_adapter(path), path=path)
