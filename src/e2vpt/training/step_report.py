"""What a progress display is told while a training goes on."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    """What a progress display is told after an optimizer step: every one on a CPU, some a second on a GPU.

    Attributes:
        epoch, epochs: the running epoch, from 1, and their number.
        step, steps: steps done in this epoch, and its steps.
        loss, accuracy: means over this epoch so far.
        images_per_second: over this epoch so far.
        seconds_left: estimate for the whole training.
        memory: peak bytes, allocated on the GPU or resident on a CPU.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    images_per_second: float
    seconds_left: float
    memory: int


def peak_resident_memory(device: torch.device) -> int:
    """Peak bytes so far: allocated on a GPU, resident on a CPU; 0 where it is not known."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
