"""How prompts lie in an adapter file: what pruning has left, and nothing for what it has not.

`blocks.<i>.visual` is [p, D], or [n], the n elements kept in the order of the rows, where some are masked.
Then `blocks.<i>.keep` [p, R] bool says which segments they are, or one `keep` for all blocks.

Shapes: p visual prompts, m key-value prompts, H heads, d head width, D model width, R segments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from e2vpt.prompts import BlockPrompts
from e2vpt.segments import Layout, compress, expand


def pack(layers: Sequence[BlockPrompts]) -> tuple[dict[str, Tensor], Layout]:
    """The tensors of a file for these blocks, by name, and the layout of the segments."""
    tensors: dict[str, Tensor] = {}
    masks: dict[int, Tensor] = {}
    for index, layer in enumerate(layers):
        value = None if layer.share_kv else layer.value
        for name, tensor in (("visual", layer.visual), ("key", layer.key), ("value", value)):
            if tensor is not None:
                tensors[f"blocks.{index}.{name}"] = tensor.detach()
        if layer.keep is not None and not bool(layer.keep.all()):
            masks[index] = layer.keep.bool()
            tensors[f"blocks.{index}.visual"] = tensors[f"blocks.{index}.visual"][masks[index]]
    segments, layout = compress(list(masks.values()))
    with_visual = sum(layer.num_visual > 0 for layer in layers)
    if len(segments) == with_visual > 0 and all(mask.equal(segments[0]) for mask in segments):
        tensors["keep"] = segments[0].clone()
    else:
        tensors |= {f"blocks.{index}.keep": mask for index, mask in zip(masks, segments, strict=True)}
    return tensors, layout


def mask_of(tensors: Mapping[str, Tensor], index: int) -> Tensor | None:
    """The mask [p, R] over the segments of a block's visual prompts, or None where all are kept."""
    own = tensors.get(f"blocks.{index}.keep")
    return tensors.get("keep") if own is None else own


@torch.no_grad()
def unpack(layers: Sequence[BlockPrompts], tensors: Mapping[str, Tensor], layout: Layout) -> None:
    """Put a file's tensors into blocks of the counts it was made from; masked elements become zero."""
    for index, layer in enumerate(layers):
        for name in ("key", "value"):
            stored, target = tensors.get(f"blocks.{index}.{name}"), getattr(layer, name)
            if stored is not None and target is not None:
                target.copy_(stored)
        if layer.visual is None or layer.keep is None:
            continue
        values, mask = tensors[f"blocks.{index}.visual"], mask_of(tensors, index)
        if mask is None:
            layer.visual.copy_(values)
            continue
        keep = expand(mask.to(layer.keep.device), layer.keep.shape[1], layout)
        layer.keep.copy_(keep)
        layer.visual.zero_()
        layer.visual[keep] = values.to(layer.visual)
