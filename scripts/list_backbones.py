"""Write the table of supported backbones: every architecture of timm that prompts can enter.

Each one is built without memory for its weights, which takes some minutes for all. Run this after a change of
what is supported, or for a newer timm.

    python scripts/list_backbones.py
"""

from __future__ import annotations

import csv
import io
import sys

import timm

from e2vpt.backbones.families import pretrained_cfg
from e2vpt.backbones.load import planned_backbone
from e2vpt.backbones.supported import SUPPORTED_TABLE
from e2vpt.errors import BackboneError

COLUMNS = ("name", "parameters", "height", "width", "pooling")


def row_of(name: str) -> dict[str, object]:
    """What the table says of an architecture.

    Raises:
        BackboneError: prompts cannot enter it.
    """
    model = planned_backbone(name, num_classes=0)
    _, height, width = pretrained_cfg(model)["input_size"]
    parameters = sum(p.numel() for p in model.parameters())
    pooling = getattr(model, "global_pool", None)
    if not isinstance(pooling, str):  # Swin keeps it in its head
        pooling = model.head.global_pool.pool_type  # type: ignore[union-attr]
    return dict(zip(COLUMNS, (name, parameters, height, width, pooling), strict=True))


def main() -> None:
    """Write the table beside the module that reads it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    count = 0
    for number, name in enumerate(names := timm.list_models(), 1):
        try:
            writer.writerow(row_of(name))
            count += 1
        except BackboneError:
            continue
        print(f"{number}/{len(names)}: {count} supported, last {name}", file=sys.stderr)
    SUPPORTED_TABLE.write_text(text.getvalue(), encoding="utf-8")


if __name__ == "__main__":
    main()
