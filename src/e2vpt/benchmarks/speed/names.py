"""What `e2vpt bench speed` can measure, by name."""

from __future__ import annotations

from typing import Literal, get_args

SpeedMethod = Literal[
    "plain",
    "linear",
    "full",
    "bias",
    "lora",
    "carried",
    "carried-fused",
    "e2vpt",
    "e2vpt-bias",
    "e2vpt-scale",
    "late",
]
PROMPTED: tuple[SpeedMethod, ...] = get_args(SpeedMethod)[5:]
COMPARED: tuple[SpeedMethod, ...] = ("linear", "full", "lora", "carried", "carried-fused", "e2vpt")
"""What is measured beside the plain forward pass, unless asked otherwise."""

Mode = Literal["inference", "step"]
MODES: tuple[Mode, ...] = get_args(Mode)
