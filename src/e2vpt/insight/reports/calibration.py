"""Whether probabilities mean what they say: calibration error, reliability, and a temperature that mends it.

Guo et al., On Calibration of Modern Neural Networks (2017). Shapes: n images, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from e2vpt.adapters.bundles import unbundle
from e2vpt.adapters.header import parse_header
from e2vpt.errors import ConfigError
from e2vpt.files.container import read_container, write_container

BINS = 15
_LOWEST, _HIGHEST = 0.05, 20.0
_TEMPERATURE = "temperature"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReliabilityBin:
    """Images whose highest probability lies in (low, high].

    Attributes:
        low, high: limits of the confidence, 0 to 1.
        count: images.
        confidence: their mean highest probability, 0 where there are none.
        accuracy: the share that is right, 0 where there are none.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def reliability(probabilities_nC: Tensor, labels_n: Tensor, num_bins: int = BINS) -> list[ReliabilityBin]:
    """Images in bins of equal width by the probability of the class they were taken for."""
    confidence, said = probabilities_nC.double().max(1)
    right = (said == labels_n).double()
    edges = torch.linspace(0, 1, num_bins + 1, dtype=torch.float64)
    index = (torch.bucketize(confidence, edges) - 1).clamp(0, num_bins - 1)
    count = torch.bincount(index, minlength=num_bins)
    sums = [torch.zeros(num_bins, dtype=torch.float64).index_add_(0, index, x) for x in (confidence, right)]
    means = [(total / count.clamp(min=1)).tolist() for total in sums]
    return [
        ReliabilityBin(
            low=float(edges[i]),
            high=float(edges[i + 1]),
            count=int(count[i]),
            confidence=means[0][i],
            accuracy=means[1][i],
        )
        for i in range(num_bins)
    ]


def calibration_error(bins: list[ReliabilityBin]) -> float:
    """ECE: the mean gap between confidence and accuracy, bins weighted by their images; 0 to 1."""
    total = sum(b.count for b in bins)
    return sum(b.count * abs(b.confidence - b.accuracy) for b in bins) / total


def fit_temperature(logits_nC: Tensor, labels_n: Tensor) -> float | None:
    """The T with the lowest cross-entropy of softmax(logits / T); None where it lies outside 0.05 to 20.

    It does where every image is right, as then the surer is the better, and where the model is sure of much
    that is wrong.

    The loss is convex in 1 / T, so its slope, E[z] - z of the label, has one root, found by bisection.
    """
    z = logits_nC.double()
    # Asked first: where all are sure, the slope below rounds to zero at both ends.
    if bool((z.argmax(1) == labels_n).all()):
        return None
    own = z.gather(1, labels_n[:, None]).squeeze(1)
    low, high = math.log(1 / _HIGHEST), math.log(1 / _LOWEST)

    def slope(log_inverse: float) -> float:
        expected = ((z * math.exp(log_inverse)).softmax(1) * z).sum(1)
        return float((expected - own).mean())

    if slope(low) >= 0 or slope(high) <= 0:
        return None
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return math.exp(-(low + high) / 2)


def store_temperature(adapter: Path, temperature: float) -> None:
    """Divide the head of an adapter file by a temperature: whoever uses it gets calibrated probabilities.

    Which class is named does not change. The file records the product of all temperatures stored in it as the
    metric `temperature`.

    Raises:
        AdapterFormatError: the file is damaged.
        ConfigError: it is a bundle with the backbone.
    """
    header, tensors, size = read_container(adapter)
    _, _, bundled = unbundle(header, dict(tensors))
    if bundled is not None:
        raise ConfigError(f"{adapter} holds its backbone too. Calibrate the adapter, then bundle it again.")
    for name in ("head.weight", "head.bias"):
        tensors[name] = (tensors[name].double() / temperature).to(tensors[name].dtype)
    metrics = header["metrics"]
    header["metrics"] = metrics | {_TEMPERATURE: metrics.get(_TEMPERATURE, 1.0) * temperature}
    parse_header(header, tensors, size)
    write_container(adapter, header, tensors)
