"""Forward and backward of a batch as a CUDA graph: launched as one piece of work instead of a thousand.

A training step of a ViT-B is about a thousand kernels, most of a few microseconds, and a host needs longer
than that to launch one: an H100 idled three quarters of the time (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Work = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Images, labels and a scale to loss and hits; gradients are added to those of the parameters."""
_WARM_UP = 2


def can_be_captured(model: nn.Module) -> bool:
    """Whether a model lies on a CUDA device and keeps no running statistics, which a warm-up would move."""
    keeps = any(getattr(module, "track_running_stats", False) for module in model.modules())
    return next(model.parameters()).device.type == "cuda" and not keeps


class Replayed:
    """`work`, captured for the shape of the first batch; batches of another shape are computed as ever.

    The same kernels in the same order, so the same numbers. Gradients stay where they are: between steps they
    must be set to zero, not to None. Where capturing fails, everything is computed as ever.
    """

    def __init__(self, work: Work, parameters: Sequence[nn.Parameter]) -> None:
        self._work = work
        self._parameters = parameters
        self._inputs: tuple[Tensor, Tensor, Tensor] | None = None
        self._outputs: tuple[Tensor, Tensor] | None = None
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, images: Tensor, labels: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """What `work` gives; valid until the next call."""
        given = (images, labels, scale)
        if self._inputs is None:
            self._inputs = tuple(value.clone() for value in given)  # type: ignore[assignment]
            self._graph = self._captured()
        assert self._inputs is not None
        if self._graph is None or images.shape != self._inputs[0].shape:
            return self._work(*given)
        for own, value in zip(self._inputs, given, strict=True):
            own.copy_(value, non_blocking=True)
        self._graph.replay()
        assert self._outputs is not None
        return self._outputs

    def _captured(self) -> torch.cuda.CUDAGraph | None:
        """The graph, or None where something in the work cannot be captured; leaves gradients of zero."""
        assert self._inputs is not None
        random = torch.cuda.get_rng_state()
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP):
                self._work(*self._inputs)
        torch.cuda.current_stream().wait_stream(aside)
        self._clear_gradients()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._outputs = self._work(*self._inputs)
        except RuntimeError:
            torch.cuda.synchronize()
            self._clear_gradients()
            return None
        finally:
            torch.cuda.set_rng_state(random)
        return graph

    def _clear_gradients(self) -> None:
        """Zero where there is one: a parameter that the loss does not depend on keeps None."""
        for parameter in self._parameters:
            if parameter.grad is not None:
                parameter.grad = torch.zeros_like(parameter)
