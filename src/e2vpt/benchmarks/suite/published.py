"""The accuracies the papers print, to stand beside measured ones: never instead of them.

Sources: reference.md section 4, after E2VPT (arXiv 2307.13770) and VPT (arXiv 2203.12119). A re-tuning of the
same methods elsewhere moved VPT-deep by two points, so a difference to these says as much of the recipe as of
the method.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """Means in %: over FGVC, over each group of VTAB-1k; None where the papers have none."""

    natural: float
    specialized: float
    structured: float
    fgvc: float | None = None
    total: float | None = None

    def means(self) -> dict[str, float]:
        """By the names that a table of VTAB-1k has: groups, T over tasks, G over groups."""
        groups = {
            "natural": self.natural,
            "specialized": self.specialized,
            "structured": self.structured,
        }
        total = {} if self.total is None else {"T": self.total}
        return groups | total | {"G": sum(groups.values()) / 3}


def _row(natural: float, specialized: float, structured: float, **more: float) -> Published:
    return Published(natural=natural, specialized=specialized, structured=structured, **more)


PUBLISHED: Mapping[str, Mapping[str, Published]] = {
    "vit-b16-sup21k": {
        "full": _row(75.88, 83.36, 47.64, fgvc=88.54, total=65.57),
        "linear": _row(68.93, 77.16, 26.84, fgvc=79.32, total=52.94),
        "partial-1": _row(69.44, 78.53, 34.17, fgvc=82.63, total=56.5),
        "mlp-3": _row(67.80, 72.83, 30.62, fgvc=79.80, total=53.2),
        "sidetune": _row(58.21, 68.12, 23.41, fgvc=78.35, total=45.7),
        "bias": _row(73.30, 78.25, 44.09, fgvc=88.41, total=62.1),
        "adapter": _row(70.39, 77.11, 33.43, fgvc=85.66, total=56.2),
        "lora": _row(79.5, 84.6, 59.8, fgvc=84.78, total=72.25),
        "vpt-shallow": _row(76.81, 79.66, 46.98, fgvc=84.62, total=64.9),
        "vpt-deep": _row(78.48, 82.43, 54.98, fgvc=89.11, total=69.43),
        "e2vpt-paper": _row(80.01, 84.43, 57.39, fgvc=89.22, total=71.42),
    },
    "swin-b-sup22k": {"e2vpt-paper": _row(83.31, 84.95, 57.35)},
    "vit-b16-mae": {"e2vpt-paper": _row(59.52, 77.80, 44.65)},
    "vit-b16-mocov3": {"e2vpt-paper": _row(76.47, 87.28, 54.91)},
}
"""By preset and row of the comparison. LoRA's are of another protocol; the group means of partial-1 to
adapter, and those of other backbones than the first, are quoted from memory of the papers' tables."""
SAME_NETWORK = {"vit_base_patch16_224.orig_in21k": "vit-b16-sup21k"}
"""timm's names of checkpoints that the published numbers are of."""


def published(backbone: str) -> Mapping[str, Published]:
    """The rows printed for a backbone; none for one that the papers did not use."""
    return PUBLISHED.get(SAME_NETWORK.get(backbone, backbone), {})
