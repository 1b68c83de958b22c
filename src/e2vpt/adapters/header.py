"""The header of an adapter file, checked word by word: the file may come from anyone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from e2vpt.adapters.contents import check_packed, check_tensors
from e2vpt.adapters.info import AdapterInfo
from e2vpt.adapters.packing import count_kept, split_masks
from e2vpt.adapters.words import (
    checked_backbone,
    checked_classes,
    checked_fingerprint,
    checked_metric,
    checked_word,
)
from e2vpt.config import MethodConfig, PromptConfig
from e2vpt.config.fields import from_dict
from e2vpt.data.preprocess import Preprocessing
from e2vpt.methods.names import METHODS, prompts_of
from e2vpt.pruning.segments import LAYOUTS

FORMAT_VERSION = 1
DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
_FIELDS = {
    *("format", "method", "options", "backbone", "fingerprint", "pool", "blocks", "visual_before", "layout"),
    *("segments", "classes", "preprocessing", "prompts", "metrics", "versions", "precision"),
}
_MAX_BLOCKS = 1000
_MAX_SEGMENTS = 2**16


def parse_header(
    header: Mapping[str, Any], tensors: Mapping[str, Tensor], size: int, *, bundled: bool = False
) -> AdapterInfo:
    """The header of a file of `size` bytes as an AdapterInfo; its tensors must be the very ones it promises.

    Raises:
        ValueError, KeyError, TypeError, OverflowError: something is missing or not as promised; the text
            says what.
    """
    unknown = sorted(header.keys() - _FIELDS)
    if unknown:
        raise ValueError(f"format {FORMAT_VERSION} has no field {', '.join(map(repr, unknown[:5]))}.")
    classes = checked_classes(header["classes"])
    prompts = from_dict(PromptConfig, _object(header, "prompts"))
    blocks = header["blocks"]
    if type(blocks) is not int or not 1 <= blocks <= _MAX_BLOCKS:
        raise ValueError(f"blocks is {blocks!r}; expected a whole number from 1 to {_MAX_BLOCKS}.")
    if header["precision"] not in list(DTYPES):
        raise ValueError(f"precision is {header['precision']!r}; expected one of {', '.join(DTYPES)}.")
    counts = prompts.visual_counts(blocks)
    method = _method(header["method"], prompts, blocks)
    check_tensors(tensors, prompts, blocks, len(classes), DTYPES[header["precision"]])
    segments = _segments(header["segments"], counts)
    check_packed(tensors, counts, segments)
    if header["layout"] not in LAYOUTS:
        raise ValueError(f"layout is {header['layout']!r}; expected one of {', '.join(LAYOUTS)}.")
    before = _counted(header["visual_before"], blocks, method)
    kept = _kept(tensors, counts, segments)
    return AdapterInfo(
        method=method,
        options=_options(header),
        backbone=checked_backbone(header["backbone"]),
        fingerprint=checked_fingerprint(header["fingerprint"]),
        pool=checked_word(header["pool"]),
        classes=classes,
        preprocessing=Preprocessing.from_dict(_object(header, "preprocessing")),
        prompts=prompts,
        metrics={
            checked_word(name): checked_metric(name, value)
            for name, value in _object(header, "metrics").items()
        },
        versions={
            checked_word(name): checked_word(text) for name, text in _object(header, "versions").items()
        },
        precision=header["precision"],
        num_visual=counts,
        num_kv=prompts.kv_counts(blocks),
        visual_before=before,
        segments=segments,
        layout=header["layout"],
        num_tuned=sum(kept) + sum(t.numel() for name, t in tensors.items() if _is_tuned(name)),
        num_head=sum(t.numel() for name, t in tensors.items() if name.startswith("head.")),
        visual_kept=_visual_kept(kept, before),
        bytes=size,
        bundled=bundled,
    )


def _object(header: Mapping[str, Any], field: str) -> dict[str, Any]:
    value = header[field]
    if not isinstance(value, dict):
        raise ValueError(f"{field} is {type(value).__name__}; expected an object.")
    return value


def _options(header: Mapping[str, Any]) -> MethodConfig:
    options = from_dict(MethodConfig, _object(header, "options"))
    if options.beside == "auto":
        raise ValueError("options.beside is 'auto'; expected what was tuned beside the method.")
    return options


def _method(value: object, prompts: PromptConfig, blocks: int) -> str:
    """A method that has room for all of the file's prompts: what it leaves out would be lost in loading."""
    if value not in METHODS:
        raise ValueError(f"method is {value!r}; expected one of {', '.join(METHODS)}.")
    method = str(value)
    own = prompts_of(method, prompts) or PromptConfig(num_visual=0, num_kv=0)
    has, takes = ((c.visual_counts(blocks), c.kv_counts(blocks)) for c in (prompts, own))
    if has != takes:
        raise ValueError(
            f"method {method} has no room for the prompts {prompts.num_visual}, {prompts.num_kv}."
        )
    return method


def _is_tuned(name: str) -> bool:
    """Key-value prompts, gates, and what is tuned beside prompts and head; masks count the visual prompts."""
    return name.startswith("tuned.") or (
        name.startswith("blocks.") and name.endswith((".key", ".value", ".gate"))
    )


def _segments(value: object, counts: Sequence[int]) -> tuple[int, ...]:
    numbers: list[Any] = value if isinstance(value, list) else [None]
    fits = all(type(n) is int and 0 <= n <= _MAX_SEGMENTS for n in numbers)
    if not fits or len(numbers) not in (0, len(counts)):
        raise ValueError(
            f"segments is {value!r}; expected none, or a number for each of {len(counts)} blocks."
        )
    found: tuple[int, ...] = tuple(numbers)
    if any((num > 0) != (count > 0) for num, count in zip(found, counts, strict=False)):
        raise ValueError(f"segments is {value!r} for {list(counts)} visual prompts by block.")
    return found


def _counted(value: object, blocks: int, method: str) -> tuple[int, ...]:
    most = prompts_of(method, PromptConfig())
    if (most is None or most.num_visual == 0) and value != [0] * blocks:
        raise ValueError(f"visual_before is {value!r}; method {method} has no visual prompts.")
    if not isinstance(value, list) or len(value) != blocks or any(type(n) is not int or n < 0 for n in value):
        raise ValueError(f"visual_before is {value!r}; expected a count for each of {blocks} blocks.")
    return tuple(value)


def _kept(tensors: Mapping[str, Tensor], counts: Sequence[int], segments: Sequence[int]) -> list[int]:
    """Visual prompt elements of every block that are not masked."""
    visual = [tensors.get(f"blocks.{i}.visual") for i in range(len(counts))]
    stored = [0 if part is None else part.numel() for part in visual]
    if not segments:
        return stored
    masks = split_masks(tensors["keep"], counts, segments)
    return [
        number * count_kept(mask) // (count * num) if part is not None and part.dim() == 2 else number
        for part, number, mask, count, num in zip(visual, stored, masks, counts, segments, strict=True)
    ]


def _visual_kept(kept: Sequence[int], before: Sequence[int]) -> float:
    """Share of what there was before pruning."""
    for index, (left, most) in enumerate(zip(kept, before, strict=True)):
        if left > most:
            raise ValueError(f"visual_before[{index}] is {most}, fewer than the {left} elements kept.")
    return sum(kept) / sum(before) if sum(before) else 1.0
