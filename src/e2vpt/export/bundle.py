"""A task's adapter and its backbone in one file, which is loaded and computed with before it is kept."""

from __future__ import annotations

import copy
from os import PathLike
from pathlib import Path

import torch
from torch import nn

from e2vpt.adapters.bundles import bundle
from e2vpt.backbones.load import backbone_name
from e2vpt.errors import ConfigError, E2VPTError, ExportError, check_type
from e2vpt.export.checked import Exported, checked_difference
from e2vpt.export.task import references
from e2vpt.files.container import read_container, write_container
from e2vpt.files.paths import check_file_place
from e2vpt.runs.folders.finding import adapter_path
from e2vpt.runs.models.load import load, plain_backbone


@torch.no_grad()
def export_bundle(
    adapter_or_run: str | PathLike[str],
    path: str | PathLike[str],
    backbone: nn.Module | str | None = None,
    *,
    weights: str | PathLike[str] | None = None,
) -> Exported:
    """Write an adapter, its backbone's weights and the preprocessing to one file that needs no connection.

    Whatever takes an adapter file takes it: `e2vpt.load`, `e2vpt predict`, `eval`, `embed`, `info`. Arguments
    are those of `e2vpt.load`.

    Raises:
        As `e2vpt.load`.
        ConfigError: it is a bundle already, or its backbone has no name to build it by.
        ExportError: what was written gives other logits.
        RunError: the file cannot be written.
    """
    check_type("adapter_or_run", adapter_or_run, str, PathLike)
    check_type("path", path, str, PathLike)
    check_file_place(Path(path), [adapter_path(adapter_or_run)])
    own = copy.deepcopy(backbone) if isinstance(backbone, nn.Module) else None  # loading changes it
    task = load(adapter_or_run, backbone, weights=weights, device="cpu")
    if task.info.bundled:
        raise ConfigError(f"{task.path} holds its backbone already; copy the file.")
    name = backbone_name(task.model)
    if not name:
        raise ConfigError(
            f"The backbone of {task.path} was made by hand; expected one that timm has a name for."
        )
    plain = own or plain_backbone(task.path, None if backbone is None else name, weights=weights)
    expected = references(task, "images")
    header, tensors, _ = read_container(task.path)
    difference = 0.0

    def check(temporary: Path) -> None:
        nonlocal difference
        try:
            found = load(temporary, device="cpu").model
        except E2VPTError as error:
            raise ExportError(f"{path} was not written, as it could not be loaded again: {error}") from error
        pairs = [(found(known.inputs["images"]), known.logits) for known in expected]
        difference = checked_difference(Path(path), pairs)

    written = write_container(Path(path), *bundle(header, tensors, plain), check)
    return Exported(path=Path(path), bytes=written, difference=difference)
