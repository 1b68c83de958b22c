"""Whether a training still computes with numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

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
        answers: dict[torch.device, list[Tensor]] = {}
        for tensor in tensors:
            answers.setdefault(tensor.device, []).append(tensor.isfinite().all())
        # One wait for a device, not one for a tensor.
        if not all(bool(torch.stack(found).all()) for found in answers.values()):
            broken = ["a parameter or its gradients"]
    if broken:
        raise _diverged(row["epoch"], ", ".join(broken))


@contextmanager
def overflow_is_divergence(epoch: int) -> Iterator[None]:
    """Inside, a step size that no float32 can hold counts as divergence; PyTorch raises a RuntimeError there.

    Raises:
        Diverged: in its place.
    """
    try:
        yield
    except RuntimeError as error:
        if "without overflow" not in str(error):
            raise
        raise _diverged(epoch, "a step") from error


def _diverged(epoch: float, what: str) -> Diverged:
    return Diverged(
        f"Epoch {epoch:.0f} gave {what} that is not a finite number, so training stopped. Lower the "
        "learning rate, or use precision fp32 or bf16 instead of fp16."
    )
