"""What a class score depends on: integrated gradients (Sundararajan et al., arXiv 1703.01365) and Grad-CAM
(Selvaraju et al., arXiv 1610.02391), both computed by Captum.

Shapes: B images, T tokens, D width, h·w patches.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from e2vpt.errors import needs
from e2vpt.insight.explanations.shares import num_prefix, patch_grid, reads_class_token
from e2vpt.prompting.parts import evaluating


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Integrated:
    """Integrated gradients of a class score, from an image of the mean colour to the picture.

    Attributes:
        pixels: [H, W], summed over colours: above zero speaks for the class, below against it.
        score, baseline: the logit of the picture and of the mean colour.
        gap: |sum of pixels - (score - baseline)| / |score - baseline|: 0 where the sum is complete.
    """

    pixels: Tensor
    score: float
    baseline: float
    gap: float


def integrated_gradients(model: nn.Module, image: Tensor, label: int, steps: int = 32) -> Integrated:
    """Of the logit of class `label`, for a normalised image [3, H, W]; `steps` points of the integral."""
    method = captum_attr().IntegratedGradients(model)
    inputs = image.unsqueeze(0).to(next(model.parameters()).device).requires_grad_()
    with evaluating(model):
        found, _ = method.attribute(
            inputs,
            baselines=0,
            target=label,
            n_steps=steps,
            internal_batch_size=min(steps, 8),
            return_convergence_delta=True,
        )
        with torch.no_grad():
            ends = model(torch.cat([inputs, torch.zeros_like(inputs)]))[:, label].tolist()
    pixels = found[0].detach().sum(0).cpu()
    change = ends[0] - ends[1]
    gap = abs(float(pixels.double().sum()) - change) / max(abs(change), 1e-12)
    return Integrated(pixels=pixels, score=ends[0], baseline=ends[1], gap=gap)


def grad_cam(model: nn.Module, image: Tensor, label: int) -> Tensor:
    """Grad-CAM of the logit of class `label`, for a normalised image [3, H, W]: signed values [h, w].

    It is of the patches that the last attention sees, where the head reads the class token; else of those
    that the last norm sees. What lies below zero is usually not shown.
    """
    through = _ThroughGrid(model, patch_grid(model, (image.shape[-2], image.shape[-1])))
    inputs = image.unsqueeze(0).to(next(model.parameters()).device).requires_grad_()
    with evaluating(model), through.installed():
        cam: Tensor = captum_attr().LayerGradCam(through, through.grid).attribute(inputs, target=label)
    return cam[0, 0].detach().cpu()


class _ThroughGrid(nn.Module):
    """The model, whose patches pass `grid` as [B, D, h, w]: the layout that Captum's Grad-CAM expects."""

    def __init__(self, model: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.model = model
        self.grid = nn.Identity()
        self._size = size

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return logits

    @contextmanager
    def installed(self) -> Iterator[None]:
        hook = _last_seen(self.model).register_forward_pre_hook(self._pass_grid)
        try:
            yield
        finally:
            hook.remove()

    def _pass_grid(self, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        tokens, (height, width) = args[0], self._size
        start = num_prefix(self.model)
        rows = tokens.reshape(tokens.shape[0], -1, tokens.shape[-1])
        before, patches, behind = rows.tensor_split([start, start + height * width], dim=1)
        grid = self.grid(torch.unflatten(patches.transpose(1, 2), 2, (height, width)))
        rows = torch.cat([before, grid.flatten(2).transpose(1, 2), behind], dim=1)
        return (rows.view(tokens.shape), *args[1:])


def _last_seen(model: nn.Module) -> nn.Module:
    """The module whose input is the last that patches reach the head by."""
    timms: Any = model
    last: nn.Module = timms.blocks[-1].attn if reads_class_token(model) else timms.norm
    return last


def captum_attr() -> ModuleType:
    """Captum's methods.

    Raises:
        MissingExtra: it is not installed.
    """
    with needs("explain", "Explanations need Captum"):
        return importlib.import_module("captum.attr")
