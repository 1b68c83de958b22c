"""What a progress display is told while a training goes on."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from e2vpt.training.sums import RunningSums

if TYPE_CHECKING:
    from accelerate import Accelerator

_TELL_SECONDS = 0.25


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


class StepTeller:
    """Tells a listener after steps; None where nobody listens."""

    def __init__(
        self,
        listener: Callable[[StepReport], None] | None,
        epochs: int,
        steps: int,
        accelerator: Accelerator,
    ) -> None:
        self._listener, self._epochs, self._steps = listener, epochs, steps
        self._device, self._processes = accelerator.device, accelerator.num_processes
        self._last_told = -math.inf

    def __call__(self, epoch: int, step: int, figures: RunningSums, began: float) -> None:
        """After `step` steps, from 1, of an epoch, from 0, that `began` then by the monotonic clock."""
        if self._listener is None:
            return
        # On a GPU the figures are there only once all that is queued is done.
        is_soon = self._device.type != "cpu" and step < self._steps
        if is_soon and time.monotonic() - self._last_told < _TELL_SECONDS:
            return
        loss, weight, hits, images = figures.read().tolist()
        self._last_told = time.monotonic()
        seconds = self._last_told - began
        self._listener(
            StepReport(
                epoch=epoch + 1,
                epochs=self._epochs,
                step=step,
                steps=self._steps,
                loss=loss / weight,
                accuracy=hits / images,
                images_per_second=images * self._processes / max(seconds, 1e-9),
                seconds_left=seconds * self._steps / step * (self._epochs - epoch - step / self._steps),
                memory=peak_resident_memory(self._device),
            )
        )


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
