"""On which device a model computes."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from e2vpt.errors import ConfigError

M = TypeVar("M", bound=nn.Module)


def placed(model: M, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> M:
    """The model itself, moved to a device (where none is named, a GPU if there is one) and into a precision.

    Raises:
        ConfigError: no such device, or it cannot be used here.
    """
    device = default_device() if device is None else device
    try:
        return model.to(device, dtype)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:  # the first of builds for CPUs
        raise ConfigError(f"device is {str(device)!r}, which cannot be used here: {error}") from error


def default_device() -> str:
    """A GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"
