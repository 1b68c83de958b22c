"""How much of a block's attention goes to patches, class token, visual prompts and key-value prompts; and
attention rollout (Abnar and Zuidema, arXiv 2005.00928), which follows it through all blocks.

Shapes: L blocks, H heads, W windows, Q queries, N image tokens, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from e2vpt.backbones.families import is_swin
from e2vpt.errors import UnsupportedBackbone
from e2vpt.insight.explanations.watching import BlockAttention

NO_ROLLOUT = (
    "Rollout is not defined for Swin: between its stages tokens are merged by a learned projection, about "
    "which attention says nothing."
)
KINDS = ("patches", "class token", "visual prompts", "key-value prompts")
"""What attention goes to. Register tokens count with the class token."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AttentionShares:
    """Shares of attention, of each block and head.

    Attributes:
        found: [L, H, 4] in the order of `KINDS`, adding up to one; heads that a block does not have are NaN.
        even: [L, 4], what the shares would be if every key got the same.
        visual, key_value: of each block [H, p] and [H, m], the share of every single prompt; of a kind they
            add up to its share in `found`.
    """

    found: Tensor
    even: Tensor
    visual: tuple[Tensor, ...]
    key_value: tuple[Tensor, ...]

    def by_block(self) -> Tensor:
        """[L, 4], the mean over the heads of each block."""
        return self.found.nanmean(1)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rollout:
    """Where attention, followed back through all blocks, comes from.

    Attributes:
        patches: [h, w], the share of each patch.
        shares: [4] in the order of `KINDS`, adding up to one; the first is the sum of `patches`.
    """

    patches: Tensor
    shares: Tensor


def attention_shares(model: nn.Module, blocks: Sequence[BlockAttention]) -> AttentionShares:
    """The mean over windows and over the tokens whose output is used.

    These are all image tokens, and in the last block of a model that reads its class token that one alone.
    Travelling prompts are looked at; how they themselves look is not counted.
    """
    most = max(block.tokens.shape[1] for block in blocks)
    found = torch.full((len(blocks), most, len(KINDS)), torch.nan, dtype=torch.float64)
    even = torch.zeros(len(blocks), len(KINDS), dtype=torch.float64)
    visual, key_value = [], []
    prefix = num_prefix(model)
    for index, block in enumerate(blocks):
        only_class = reads_class_token(model) and index == len(blocks) - 1
        last = 1 if only_class else block.tokens.shape[2] - block.num_travelling
        parts = _parts(block, prefix)
        by_key = [part[:, :, :last].double().mean((0, 2)) for part in parts]
        sums = torch.stack([part.sum(-1) for part in by_key], dim=-1)
        found[index, : len(sums)] = sums
        visual.append(by_key[2])
        key_value.append(by_key[3])
        counts = torch.tensor([part.shape[-1] for part in parts], dtype=torch.float64)
        even[index] = counts / counts.sum()
    return AttentionShares(found=found, even=even, visual=tuple(visual), key_value=tuple(key_value))


def _parts(block: BlockAttention, prefix: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights of what `KINDS` lists, each [W, H, Q, ...]."""
    image = block.tokens.shape[-1] - block.num_travelling
    first, patches, travelling = block.tokens.tensor_split([prefix, image], dim=-1)
    visual, key_value = block.rows.tensor_split([block.num_visual_rows], dim=-1)
    return patches, first, torch.cat([travelling, visual], dim=-1), key_value


def attention_rollout(model: nn.Module, blocks: Sequence[BlockAttention], grid: tuple[int, int]) -> Rollout:
    """Rollout for what the head reads: the class token, or the mean of the patches.

    A token is taken for half itself, half what the mean head attends to. Prompts are sources: what came from
    them in one block stays theirs in the later ones. In the paper every row of the sequence belongs to the
    image, so there is no such rest.

    Raises:
        UnsupportedBackbone: a Swin. Patch merging mixes four tokens by a learned projection, about which
            attention says nothing.
    """
    if is_swin(model):
        raise UnsupportedBackbone(NO_ROLLOUT)
    size, prefix = blocks[0].tokens.shape[-1], num_prefix(model)
    from_tokens = torch.eye(size, dtype=torch.float64)
    from_rows = torch.zeros(size, 2, dtype=torch.float64)
    for block in blocks:
        tokens = block.tokens[0].double().mean(0).cpu()
        rows = block.rows[0].double().mean(0).cpu()
        kinds = torch.stack([part.sum(-1) for part in rows.tensor_split([block.num_visual_rows], -1)], -1)
        step = (tokens + torch.eye(size, dtype=torch.float64)) / 2
        from_tokens, from_rows = step @ from_tokens, step @ from_rows + kinds / 2
    image = size - blocks[0].num_travelling
    reader = slice(0, 1) if reads_class_token(model) else slice(prefix, image)
    first, patches, travelling = from_tokens[reader].mean(0).tensor_split([prefix, image])
    visual, key_value = from_rows[reader].mean(0)
    shares = torch.stack([patches.sum(), first.sum(), travelling.sum() + visual, key_value])
    return Rollout(patches=patches.view(grid), shares=shares)


def num_prefix(model: nn.Module) -> int:
    """Class and register tokens before the patches."""
    count: int = getattr(model, "num_prefix_tokens", 0)
    return count


def reads_class_token(model: nn.Module) -> bool:
    """Whether the head sees the class token alone."""
    timms: Any = model
    has_pool = getattr(timms, "attn_pool", None) is not None
    return num_prefix(model) > 0 and timms.global_pool == "token" and not has_pool


def patch_grid(model: nn.Module, image_size: tuple[int, int]) -> tuple[int, int]:
    """Patches (h, w) of an image of `image_size`: of the last stage for a Swin."""
    embed: Any = model.patch_embed
    merged = 2 ** (len(model.layers) - 1) if is_swin(model) else 1  # type: ignore[arg-type]
    height, width = (
        -(-(side // patch) // merged) for side, patch in zip(image_size, embed.patch_size, strict=True)
    )
    return height, width
