"""Whether the tensors of an adapter file are the very ones that its header promises."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from e2vpt.adapters.packing import SPARSEST, count_kept, split_masks
from e2vpt.config import PromptConfig

_TUNED = re.compile(r"tuned(\.\w{1,64}){1,16}", re.ASCII)


def check_tensors(
    tensors: Mapping[str, Tensor], prompts: PromptConfig, blocks: int, num_classes: int, dtype: torch.dtype
) -> None:
    """Hold the tensors to the exact names, kinds and counts that the settings promise."""
    expected: dict[str, tuple[int | None, ...]] = {
        "head.weight": (num_classes, None),
        "head.bias": (num_classes,),
    }
    for i, (p, m) in enumerate(zip(prompts.visual_counts(blocks), prompts.kv_counts(blocks), strict=True)):
        if p:
            expected |= _visual_shapes(tensors, i, p)
        if m:
            expected[f"blocks.{i}.key"] = (None, m, None)
            if not prompts.share_kv:
                expected[f"blocks.{i}.value"] = (None, m, None)
        if prompts.attention == "gated" and (p or m):
            expected[f"blocks.{i}.gate"] = (None,)
    if "keep" in tensors:
        expected["keep"] = (None,)
    # Their shapes are the model's: `matching.check_tuned` holds them to it.
    expected |= {name: (None,) * t.dim() for name, t in tensors.items() if _TUNED.fullmatch(name)}
    missing, unknown = sorted(set(expected) - set(tensors)), sorted(set(tensors) - set(expected))
    if missing or unknown:
        raise ValueError(f"the settings promise other tensors: missing {missing[:5]}, unknown {unknown[:5]}.")
    for name, tensor in tensors.items():
        shape = expected[name]
        fits = len(shape) == tensor.dim() and all(
            want in (None, have) for want, have in zip(shape, tensor.shape, strict=True)
        )
        wanted = torch.uint8 if name == "keep" else dtype
        if not fits or tensor.dtype != wanted:
            raise ValueError(
                f"tensor {name} is {tensor.dtype} {list(tensor.shape)}; expected {wanted} "
                f"{['any' if side is None else side for side in shape]}."
            )
        _check_values(name, tensor)


def _visual_shapes(
    tensors: Mapping[str, Tensor], index: int, count: int
) -> dict[str, tuple[int | None, ...]]:
    """A block of `count` visual prompts has all their elements, or beside a mask those kept."""
    name = f"blocks.{index}.visual"
    packed = "keep" in tensors and name in tensors and tensors[name].dim() == 1
    return {name: (None,) if packed else (count, None)}


def check_packed(tensors: Mapping[str, Tensor], counts: Sequence[int], segments: Sequence[int]) -> None:
    """Hold masks to what they say of the visual prompts: nothing is allocated by their word alone."""
    if bool(segments) != ("keep" in tensors):
        raise ValueError(
            f"segments is {list(segments)!r} {'without' if segments else 'beside'} a tensor keep."
        )
    if not segments:
        return
    for i, mask in enumerate(split_masks(tensors["keep"], counts, segments)):
        visual, bits, kept = tensors.get(f"blocks.{i}.visual"), counts[i] * segments[i], count_kept(mask)
        if bits % 8 and count_kept(mask[-1:] << bits % 8):
            raise ValueError(f"the mask of block {i} has bits beyond its {bits} segments.")
        if visual is None or visual.dim() == 2:
            continue
        if kept * SPARSEST < bits or visual.numel() % kept:
            raise ValueError(
                f"blocks.{i}.visual has {visual.numel()} elements for {kept} of {bits} segments; expected a "
                f"multiple, and at least one in {SPARSEST} kept."
            )


def _check_values(name: str, tensor: Tensor) -> None:
    if not bool(tensor.isfinite().all()):
        raise ValueError(f"tensor {name} has values that are not finite numbers in {tensor.dtype}.")
