"""Adapt one frozen vision transformer to many image tasks: E²VPT on timm backbones, a small file per task.

    model = e2vpt.train("pets/", backbone="vit_base_patch16_224.augreg_in21k")   # the whole job
    model = e2vpt.load("runs/pets")                                              # predict, evaluate, embed
    model = e2vpt.prompt(backbone, e2vpt.PromptConfig())                         # for a loop of one's own

What belongs to one subject is in its package: `e2vpt.pruning`, `e2vpt.search`, `e2vpt.errors`. Everything is
loaded on first use, so that importing this is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from e2vpt.adapters.files import load_adapter as load_adapter
    from e2vpt.adapters.files import read_adapter as read_adapter
    from e2vpt.adapters.files import save_adapter as save_adapter
    from e2vpt.adapters.info import AdapterInfo as AdapterInfo
    from e2vpt.backbones.load import load_backbone as load_backbone
    from e2vpt.config import DataConfig as DataConfig
    from e2vpt.config import MethodConfig as MethodConfig
    from e2vpt.config import PromptConfig as PromptConfig
    from e2vpt.config import PruneConfig as PruneConfig
    from e2vpt.config import TrainConfig as TrainConfig
    from e2vpt.data import Preprocessing as Preprocessing
    from e2vpt.data import Task as Task
    from e2vpt.data import load_task as load_task
    from e2vpt.data import make_loader as make_loader
    from e2vpt.data import preprocessing_for as preprocessing_for
    from e2vpt.errors import E2VPTError as E2VPTError
    from e2vpt.methods.adapt import adapt as adapt
    from e2vpt.methods.counting import print_trainable_parameters as print_trainable_parameters
    from e2vpt.multitask.tasks import MultiTask as MultiTask
    from e2vpt.prompting.folding import folded as folded
    from e2vpt.prompting.initial import init_from_images as init_from_images
    from e2vpt.prompting.install import prompt as prompt
    from e2vpt.prompting.parts import disabled as disabled
    from e2vpt.prompting.parts import prompt_layers as prompt_layers
    from e2vpt.runs.estimator import E2VPTClassifier as E2VPTClassifier
    from e2vpt.runs.folders.run_config import RunConfig as RunConfig
    from e2vpt.runs.models.load import load as load
    from e2vpt.runs.models.predict import Prediction as Prediction
    from e2vpt.runs.models.task_model import TaskModel as TaskModel
    from e2vpt.runs.train import train as train
    from e2vpt.training.evaluate import Metrics as Metrics
    from e2vpt.training.evaluate import evaluate as evaluate
    from e2vpt.training.fit import FitResult as FitResult
    from e2vpt.training.fit import fit as fit

__version__ = "0.1.0"

_HOMES = {
    "adapters.files": ("load_adapter", "read_adapter", "save_adapter"),
    "adapters.info": ("AdapterInfo",),
    "backbones.load": ("load_backbone",),
    "config": ("DataConfig", "MethodConfig", "PromptConfig", "PruneConfig", "TrainConfig"),
    "data": ("Preprocessing", "Task", "load_task", "make_loader", "preprocessing_for"),
    "errors": ("E2VPTError",),
    "methods.adapt": ("adapt",),
    "methods.counting": ("print_trainable_parameters",),
    "multitask.tasks": ("MultiTask",),
    "prompting.folding": ("folded",),
    "prompting.initial": ("init_from_images",),
    "prompting.install": ("prompt",),
    "prompting.parts": ("disabled", "prompt_layers"),
    "runs.estimator": ("E2VPTClassifier",),
    "runs.folders.run_config": ("RunConfig",),
    "runs.models.load": ("load",),
    "runs.models.predict": ("Prediction",),
    "runs.models.task_model": ("TaskModel",),
    "runs.train": ("train",),
    "training.evaluate": ("Metrics", "evaluate"),
    "training.fit": ("FitResult", "fit"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_PACKAGES = [
    "adapters",
    "backbones",
    "config",
    "data",
    "errors",
    "export",
    "insight",
    "methods",
    "multitask",
    "prompting",
    "pruning",
    "runs",
    "search",
    "training",
]

__all__ = ["__version__", *sorted(_HOME_OF)]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(f"e2vpt.{_HOME_OF[name]}"), name)
    if name in _PACKAGES:
        return importlib.import_module(f"e2vpt.{name}")
    raise AttributeError(f"module 'e2vpt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
