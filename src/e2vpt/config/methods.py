"""What other methods than prompts are made of, and what is tuned beside a method's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from e2vpt.config.fields import check_choices, check_count, option, require


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodConfig:
    """Settings of the methods without prompts, and what is trained beside a method's own parameters."""

    beside: Literal["auto", "none", "bias", "norm", "gamma", "scale"] = option(
        "auto",
        "Also train the backbone's biases (bias), its LayerNorms (norm), both (gamma), or biases and a scale "
        "of every output channel of its linear layers (scale). `auto`: scale with method e2vpt, unless "
        "--first-block is set; nothing with other methods.",
    )
    partial_blocks: int = option(1, "Method partial: how many of the last blocks to train.")
    mlp_layers: int = option(3, "Method mlp: number of layers of the head.")
    adapter_width: int = option(24, "Method adapter: width of the bottleneck, in channels.")
    adapter_places: Literal["pfeiffer", "houlsby"] = option(
        "pfeiffer", "Method adapter: after the MLP (pfeiffer), or after attention and MLP (houlsby)."
    )
    lora_rank: int = option(8, "Methods lora, dora, loha, lokr: rank of the update of qkv.")
    lora_alpha: int = option(8, "Methods lora, dora, loha, lokr: the update is multiplied by alpha / rank.")

    def __post_init__(self) -> None:
        check_choices(self)
        # Bounds: an adapter file from a stranger says these numbers, and memory follows them.
        limits = {"partial_blocks": 1000, "mlp_layers": 8, "adapter_width": 1024, "lora_rank": 256}
        for name, most in (limits | {"lora_alpha": 10**6}).items():
            value = getattr(self, name)
            check_count(name, value, 1)
            require(value <= most, f"{name} is {value}; the most is {most}.")
