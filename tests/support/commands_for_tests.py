"""Commands that several tests of the command line call."""

from __future__ import annotations

TRAIN = [
    "train",
    "shapes",
    "--backbone",
    "demo",
    "--epochs",
    "6",
    "--batch-size",
    "9",
    "--lr",
    "0.01",
    "--out",
    "run",
    "--no-prune",
]
