"""Weights averaged over the steps of a training: what is validated and kept, while the optimizer goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class AveragedWeights:
    """An exponential moving average of what is trained; nothing at all with a decay of 0.

    After step t (from 1) the average moves by 1 - min(decay, (1 + t) / (10 + t)) of the way to the weights:
    early ones, far from the end, are soon forgotten.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], decay: float, values: dict[str, Tensor]
    ) -> None:
        """`values` are the averages so far, by name, where there are any; they are kept there."""
        self._parameters, self._decay = parameters, decay
        self._values = values
        if decay and not values:
            values |= {name: parameter.detach().clone() for name, parameter in parameters.items()}

    def add(self, step: int) -> None:
        """Take in the weights after a step, counted from 1 over all epochs."""
        if self._decay:
            decay = min(self._decay, (1 + step) / (10 + step))
            averages = [self._values[name] for name in self._parameters]
            weights = [parameter.detach() for parameter in self._parameters.values()]
            get_ema_multi_avg_fn(decay)(averages, weights, step)  # type: ignore[no-untyped-call]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside, the model holds the averages; copied, as a captured graph knows where the weights lie."""
        if not self._decay:
            yield
            return
        weights = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self._fill(self._values)
        try:
            yield
        finally:
            self._fill(weights)

    @torch.no_grad()
    def _fill(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(values[name])
