"""The accuracies that the papers print for ViT-B/16, supervised on ImageNet-21k, beside measured ones.

The rows of VPT's Table 1 (arXiv 2203.12119) and E²VPT's own (arXiv 2307.13770, quoted by VAPT, arXiv
2501.18936). They are no substitute for a run: the same methods, tuned again elsewhere, moved by two points,
so a difference says as much about the recipe as about the method.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from e2vpt.benchmarks.suite.tasks import Benchmark
from e2vpt.benchmarks.vtab.tasks import VTAB

_CHECKPOINTS = ("vit-b16-sup21k", "vit_base_patch16_224.orig_in21k")
"""Our preset and timm's name of the checkpoint that the numbers are of."""
_GROUPS = ("natural", "specialized", "structured")
PUBLISHED: Mapping[str, tuple[float, float, float, float]] = {
    "full": (88.54, 75.88, 83.36, 47.64),
    "linear": (79.32, 68.93, 77.16, 26.84),
    "partial-1": (82.63, 69.44, 78.53, 34.17),
    "mlp-3": (79.80, 67.80, 72.83, 30.62),
    "sidetune": (78.35, 58.21, 68.12, 23.41),
    "bias": (88.41, 73.30, 78.25, 44.09),
    "adapter": (85.66, 70.39, 77.11, 33.43),
    "vpt-shallow": (84.62, 76.81, 79.66, 46.98),
    "vpt-deep": (89.11, 78.48, 82.43, 54.98),
    "e2vpt-paper": (89.22, 80.01, 84.43, 57.39),
}
"""By row of the comparison, in %: the mean over FGVC, and over each group of VTAB-1k."""


def published_means(kind: Benchmark, backbone: str) -> dict[str, dict[str, float]]:
    """By method, means by the names that our table has; none for another backbone than the printed one."""
    if backbone not in _CHECKPOINTS:
        return {}
    if kind == "fgvc":
        return {method: {"mean": fgvc} for method, (fgvc, *_) in PUBLISHED.items()}
    return {
        method: _vtab_means(dict(zip(_GROUPS, groups, strict=True)))
        for method, (_, *groups) in PUBLISHED.items()
    }


def _vtab_means(groups: dict[str, float]) -> dict[str, float]:
    """Of groups to those of T over tasks and G over groups too."""
    total = statistics.mean(groups[task.group] for task in VTAB.values())
    return groups | {"T": total, "G": statistics.mean(groups.values())}
