"""Whether a training still computes with numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from e2vpt.errors import Diverged


def check_finite(
    row: Mapping[str, float], figures: Mapping[str, float], optimizer: torch.optim.Optimizer | None = None
) -> None:
    """Hold an epoch's figures, and what an optimizer trains and remembers, to finite numbers.

    Raises:
        Diverged: naming the epoch of `row` and what is not finite.
    """
    broken = [name for name, value in figures.items() if not math.isfinite(value)]
    if optimizer is not None and not broken:
        tensors = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        tensors += [v for state in optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]
        # On a device the answers are collected before one of them is waited for.
        finite = [tensor.isfinite().all() for tensor in tensors]
        broken = (
            [] if bool(torch.stack([f.cpu() for f in finite]).all()) else ["a parameter or its gradients"]
        )
    if broken:
        raise Diverged(
            f"Epoch {row['epoch'] + 1:.0f} gave {', '.join(broken)} that is not a finite number, so training "
            "stopped. Lower the learning rate, or use precision fp32 or bf16 instead of fp16."
        )
