"""What other methods than prompts are made of, and what is tuned beside a method's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from e2vpt.config.fields import check_choices, check_count, option, require


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodConfig:
    """What other methods than prompts are made of, and what is tuned beside a method's own."""

    beside: Literal["auto", "none", "bias", "norm"] = option(
        "auto",
        "Tune every bias, or every LayerNorm, of the backbone beside what the method tunes; `auto` is biases "
        "for e2vpt with prompts from the first block on, and nothing for all others.",
    )
    partial_blocks: int = option(1, "Method partial: the last blocks, which are tuned.")
    mlp_layers: int = option(3, "Method mlp: layers of the head.")
    adapter_width: int = option(24, "Method adapter: channels of its bottleneck.")
    adapter_places: Literal["pfeiffer", "houlsby"] = option(
        "pfeiffer", "Method adapter: behind the MLP, or behind attention and MLP."
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
