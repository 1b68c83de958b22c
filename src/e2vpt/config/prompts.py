"""The mixed prompts of one task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from e2vpt.config.fields import Counts, as_tuple, check_choices, check_count, check_number, option, require

Depth = Literal["deep", "shallow"]
VisualInit = Literal["uniform", "normal", "zeros", "patch"]
KeyValueInit = Literal["kaiming", "normal", "zeros", "patch"]
PromptAttention = Literal["joint", "gated"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptConfig:
    """The mixed prompts of one task (paper, section 3). The defaults are the paper's.

    `num_visual` and `num_kv` are one count for every block, or one per block in forward order. With depth
    "shallow" only the first block has prompts of that kind.
    """

    num_visual: Counts = option(10, "Visual prompts per block (0 for none).")
    num_kv: Counts = option(5, "Key-value prompts per block and head (0 for none).")
    share_kv: bool = option(True, "One tensor serves as both key and value prompts.")
    visual_depth: Depth = option(
        "deep", "Visual prompts in every block, or in the first only, travelling on."
    )
    kv_depth: Depth = option("deep", "Key-value prompts in every block, or in the first only.")
    init: VisualInit = option(
        "uniform", "Initial visual prompts; `patch` takes patch tokens of training images, all at one size."
    )
    kv_init: KeyValueInit = option(
        "kaiming", "Initial key-value prompts; `patch` takes projected patch tokens of training images."
    )
    first_block: int = option(
        0, "First block with prompts (deep only); what comes before it is computed once for each image (ViT)."
    )
    dropout: float = option(0.0, "Dropout of visual prompts, drawn for every image, while training.")
    attention: PromptAttention = option(
        "joint",
        "Prompts share the softmax of the image tokens (joint, the paper's), or have one of their own, "
        "weighted by a gate for each head that starts at zero (gated, deep only).",
    )
    pool_prompts: bool = option(
        False, "Swin: average the last block's prompt rows into the feature (official code)."
    )

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("num_visual", "num_kv"):
            value = getattr(self, name)
            for count in as_tuple(value):
                check_count(name, count, 0, 10_000)
            require(value != (), f"{name} is empty; give one count, or one per block.")
        check_number("dropout", self.dropout, 0.0, 1.0)
        check_count("first_block", self.first_block, 0)
        require(
            self.first_block == 0 or (self.visual_depth, self.kv_depth) == ("deep", "deep"),
            "first_block is for deep prompts; shallow ones are in the first block.",
        )
        require(
            self.attention == "joint" or not (self.visual_depth == "shallow" or self.pool_prompts),
            "attention 'gated' is for deep prompts that are not pooled; others stand among the image tokens.",
        )

    @property
    def has_key_value(self) -> bool:
        """Whether there are key-value prompts in some block."""
        return any(as_tuple(self.num_kv))

    def visual_counts(self, num_blocks: int) -> tuple[int, ...]:
        """Visual prompts of each of `num_blocks` blocks."""
        return self._per_block("num_visual", self.num_visual, self.visual_depth, num_blocks)

    def kv_counts(self, num_blocks: int) -> tuple[int, ...]:
        """Key-value prompts of each of `num_blocks` blocks."""
        return self._per_block("num_kv", self.num_kv, self.kv_depth, num_blocks)

    def _per_block(self, name: str, value: Counts, depth: Depth, num_blocks: int) -> tuple[int, ...]:
        counts = value if isinstance(value, tuple) else (value,) * num_blocks
        require(
            len(counts) == num_blocks,
            f"{name} has {len(counts)} counts; the backbone has {num_blocks} blocks.",
        )
        require(
            self.first_block < num_blocks,
            f"first_block is {self.first_block}; the backbone has blocks 0 to {num_blocks - 1}.",
        )
        if depth == "shallow":
            return counts[:1] + (0,) * (num_blocks - 1)
        return (0,) * self.first_block + counts[self.first_block :]


RECIPE_PROMPTS = PromptConfig(num_kv=0, init="patch", kv_init="patch")
"""What `train` starts from unless told otherwise: prompts made of training images learn faster, and beside
output scales key-value prompts cost accuracy (docs/results.md)."""
