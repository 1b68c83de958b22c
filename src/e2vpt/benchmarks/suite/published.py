"""The accuracies that the papers print for ViT-B/16, supervised on ImageNet-21k, beside measured ones.

The rows of VPT's Table 1 (arXiv 2203.12119) and E²VPT's own (arXiv 2307.13770, quoted by VAPT, arXiv
2501.18936). They are no substitute for a run: the same methods, tuned again elsewhere, moved by two points,
so a difference says as much about the recipe as about the method.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from e2vpt.benchmarks.vtab.tasks import VTAB


@dataclass(frozen=True, slots=True)
class Published:
    """Means in %: over the five data sets of FGVC, and over each group of VTAB-1k."""

    fgvc: float
    natural: float
    specialized: float
    structured: float

    def means(self) -> dict[str, float]:
        """By the names that a table of VTAB-1k has: groups, T over tasks, G over groups."""
        groups: dict[str, float] = {group: getattr(self, group) for group in _GROUPS}
        total = statistics.mean(groups[task.group] for task in VTAB.values())
        return groups | {"T": total, "G": statistics.mean(groups.values())}


_GROUPS = ("natural", "specialized", "structured")
_CHECKPOINTS = ("vit-b16-sup21k", "vit_base_patch16_224.orig_in21k")
"""Our preset and timm's name of the checkpoint that the numbers are of."""
PUBLISHED: Mapping[str, Published] = {
    "full": Published(88.54, 75.88, 83.36, 47.64),
    "linear": Published(79.32, 68.93, 77.16, 26.84),
    "partial-1": Published(82.63, 69.44, 78.53, 34.17),
    "mlp-3": Published(79.80, 67.80, 72.83, 30.62),
    "sidetune": Published(78.35, 58.21, 68.12, 23.41),
    "bias": Published(88.41, 73.30, 78.25, 44.09),
    "adapter": Published(85.66, 70.39, 77.11, 33.43),
    "vpt-shallow": Published(84.62, 76.81, 79.66, 46.98),
    "vpt-deep": Published(89.11, 78.48, 82.43, 54.98),
    "e2vpt-paper": Published(89.22, 80.01, 84.43, 57.39),
}
"""By row of the comparison."""


def published(backbone: str) -> Mapping[str, Published]:
    """The rows printed for a backbone; none for another than the one they are of."""
    return PUBLISHED if backbone in _CHECKPOINTS else {}
