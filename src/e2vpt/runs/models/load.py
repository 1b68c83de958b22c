"""From an adapter, or a run, to a model that is ready; or to its backbone as it is without it."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from types import NoneType

import torch
from torch import nn

from e2vpt.adapters.choosing import choose_backbone
from e2vpt.adapters.files import load_stored
from e2vpt.adapters.info import AdapterInfo
from e2vpt.adapters.reading import read_stored
from e2vpt.backbones.placing import placed
from e2vpt.data.preprocess import check_rgb
from e2vpt.errors import check_type
from e2vpt.runs.folders.finding import adapter_path, run_of
from e2vpt.runs.folders.folder import CONFIG, read_config
from e2vpt.runs.models.task_model import TaskModel


def load(
    adapter_or_run: str | PathLike[str],
    backbone: nn.Module | str | None = None,
    *,
    weights: str | PathLike[str] | None = None,
    device: str | torch.device | None = None,
) -> TaskModel:
    """Load an adapter file, or that of a run folder or of "hf-hub:owner/name", with its backbone.

    `backbone` is a timm model or name, where it is not the one that the file names; `weights` a local file of
    its weights. A run that was trained with such a file finds it again. `device`: a GPU where there is one.

    Raises:
        RunError: no finished run at this path.
        HubError: the Hub cannot be reached, or has no such adapter.
        AdapterFormatError: the file is damaged or no adapter.
        BackboneMismatch: the adapter was made for other weights.
        WeightsError: the weights cannot be had.
        ConfigError: the backbone does not take RGB images.
    """
    check_type("adapter_or_run", adapter_or_run, str, PathLike)
    check_type("backbone", backbone, nn.Module, str, NoneType)
    check_type("weights", weights, str, PathLike, NoneType)
    check_type("device", device, str, torch.device, NoneType)
    path = adapter_path(Path(adapter_or_run))
    stored = read_stored(path)
    if weights is None and backbone is None:
        weights = _weights_of_run(path, stored.info)
    model, info = load_stored(path, stored, backbone, weights=None if weights is None else Path(weights))
    check_rgb(model)
    return TaskModel(model=placed(model, device).eval(), info=info, path=path)


def plain_backbone(
    adapter: Path, backbone: str | None = None, *, weights: str | PathLike[str] | None = None
) -> nn.Module:
    """The backbone of an adapter as it is without it, under a head of one class; arguments as of `load`.

    Raises:
        As `load`.
    """
    stored = read_stored(adapter)
    if weights is None and backbone is None:
        weights = _weights_of_run(adapter, stored.info)
    chosen = choose_backbone(adapter, stored, backbone, None if weights is None else Path(weights))
    chosen.planned(1)
    return chosen.loaded(1)


def _weights_of_run(adapter: Path, info: AdapterInfo) -> str | None:
    """The file of weights that the run of an adapter was trained with, where it still is.

    None for a bundle, which has its own.
    """
    run = None if info.bundled else run_of(adapter, info.classes, info.fingerprint)
    saved = None if run is None else read_config(run / CONFIG).get("weights")
    return saved if isinstance(saved, str) and Path(saved).expanduser().is_file() else None
