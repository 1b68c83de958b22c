"""How prompts lie in an adapter file: what pruning has left, and nothing for what it has not.

`blocks.<i>.visual` is [p, D]; or [n], the n elements kept in the order of the rows, where elements are
masked and at least a quarter of the block's are kept, so that loading takes memory in proportion to a file.
Then `keep` has a bit for each segment of each prompt, block after block, each block's filled up to whole
bytes; the header says how many segments each block has.

Shapes: p visual prompts, m key-value prompts, H heads, d head width, D model width, R segments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from e2vpt.config.pruning import Layout
from e2vpt.prompting.prompts import BlockPrompts
from e2vpt.pruning.segments import compress, expand

SPARSEST = 4
"""A block of which fewer than one in so many elements are kept is stored whole."""


def pack(layers: Sequence[BlockPrompts]) -> tuple[dict[str, Tensor], Layout, list[int]]:
    """The tensors of a file for these blocks by name, the layout and the number of segments of each block.

    Without anything masked there are no segments: an empty list.
    """
    tensors: dict[str, Tensor] = {}
    for index, layer in enumerate(layers):
        value = None if layer.share_kv else layer.value
        for name, tensor in (
            *(("visual", layer.visual), ("key", layer.key), ("value", value)),
            ("gate", layer.gate),
        ):
            if tensor is not None:
                tensors[f"blocks.{index}.{name}"] = tensor.detach()
    keeps = {i: layer.keep.bool().cpu() for i, layer in enumerate(layers) if layer.keep is not None}
    if all(bool(keep.all()) for keep in keeps.values()):
        return tensors, "strided", []
    masks, layout = compress(list(keeps.values()))
    segments = [0] * len(layers)
    for (index, keep), mask in zip(keeps.items(), masks, strict=True):
        segments[index] = mask.shape[1]
        name = f"blocks.{index}.visual"
        whole = tensors[name].cpu()
        is_sparse = int(mask.sum()) * SPARSEST < mask.numel()
        tensors[name] = whole * keep if is_sparse else whole[keep]
    bits = [np.packbits(mask.numpy().reshape(-1)) for mask in masks]
    tensors["keep"] = torch.from_numpy(np.concatenate(bits))
    return tensors, layout, segments


def split_masks(keep: Tensor, counts: Sequence[int], segments: Sequence[int]) -> list[Tensor]:
    """The bytes of each block's mask.

    Raises:
        ValueError: they are not what `counts` visual prompts of `segments` segments take.
    """
    sizes = [-(-count * num // 8) for count, num in zip(counts, segments, strict=True)]
    if keep.dim() != 1 or keep.numel() != sum(sizes):
        raise ValueError(f"tensor keep has shape {list(keep.shape)}; expected [{sum(sizes)}].")
    return list(torch.split(keep, sizes))


def count_kept(mask: Tensor) -> int:
    """Ones among the bits of a mask's bytes."""
    return int(_ONES[mask.numpy()].sum(dtype=np.int64))


def mask_of(mask: Tensor, count: int, num_segments: int) -> Tensor:
    """A mask's bytes as [p, R] bool."""
    bits = np.unpackbits(mask.numpy(), count=count * num_segments)
    return torch.from_numpy(bits.astype(bool)).view(count, num_segments)


_ONES = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)


@torch.no_grad()
def unpack(
    layers: Sequence[BlockPrompts], tensors: Mapping[str, Tensor], segments: Sequence[int], layout: Layout
) -> None:
    """Put a file's tensors into blocks of the counts it was made from; masked elements become zero."""
    for index, layer in enumerate(layers):
        layer.waits_for_images = False
        for name in ("key", "value", "gate"):
            stored, target = tensors.get(f"blocks.{index}.{name}"), getattr(layer, name)
            if stored is not None and target is not None:
                target.copy_(stored)
    counts = [layer.num_visual for layer in layers]
    masks = split_masks(tensors["keep"], counts, segments) if segments else [None] * len(layers)
    for index, (layer, mask) in enumerate(zip(layers, masks, strict=True)):
        if layer.visual is None or layer.keep is None:
            continue
        values = tensors[f"blocks.{index}.visual"].to(layer.visual)
        if mask is not None:
            whole = mask_of(mask, layer.num_visual, segments[index]).to(layer.keep.device)
            layer.keep.copy_(expand(whole, layer.keep.shape[1], layout))
        if values.dim() == 2:
            layer.visual.copy_(values)
        else:
            layer.visual.zero_()
            layer.visual[layer.keep.bool()] = values
