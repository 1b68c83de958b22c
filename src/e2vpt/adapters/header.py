"""What an adapter file says of itself, checked word by word: the file may come from anyone."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from e2vpt.adapters.contents import check_packed, check_tensors
from e2vpt.adapters.packing import count_kept, split_masks
from e2vpt.config import MethodConfig, PromptConfig
from e2vpt.config.fields import from_dict
from e2vpt.config.pruning import Layout
from e2vpt.data.preprocess import Preprocessing
from e2vpt.methods.names import METHODS, prompts_of
from e2vpt.pruning.segments import LAYOUTS

FORMAT_VERSION = 1
DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
_WORD = re.compile(r"[\w.+\-]{0,200}", re.ASCII)
_HUB_NAME = re.compile(r"hf-hub:[\w.\-]{1,96}(/[\w.\-]{1,96})?(@[\w.\-/]{1,100})?", re.ASCII)
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_FIELDS = {
    *("format", "method", "options", "backbone", "fingerprint", "pool", "blocks", "visual_before", "layout"),
    *("segments", "classes", "preprocessing", "prompts", "metrics", "versions", "precision"),
}
_MAX_BLOCKS = 1000
_MAX_SEGMENTS = 2**16


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterInfo:
    """What an adapter file says of itself.

    Attributes:
        method: how it was trained, one of `methods.names.METHODS`.
        options: settings of that method.
        backbone: timm name, preset or "hf-hub:owner/name" of the backbone ("" for one made by hand).
        fingerprint: sha256 of the backbone's weights (see `backbones.fingerprint`).
        pool: the backbone's pooling, "token", "avg" or "map".
        classes: class names, in the order of the logits.
        preprocessing: how images become tensors.
        prompts: the prompt settings.
        metrics: what the training measured, "val_accuracy" for one.
        versions: of Python and libraries that wrote the file.
        precision: "fp32" or "fp16", of the stored numbers.
        num_visual: visual prompts of every block.
        num_kv: key-value prompts of every block.
        visual_before: visual prompt elements of every block before pruning.
        segments: of every block's masked visual prompts; none where nothing is masked.
        layout: which channels they have, "strided" or "contiguous".
        num_tuned: tuned parameters without the head; what was pruned away does not count.
        num_head: parameters of the head.
        visual_kept: share of the visual prompt elements that survived pruning, 0 to 1.
        bytes: size of the file.
        bundled: whether the file holds the backbone's weights too.
    """

    method: str
    options: MethodConfig
    backbone: str
    fingerprint: str
    pool: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    prompts: PromptConfig
    metrics: Mapping[str, float]
    versions: Mapping[str, str]
    precision: Literal["fp32", "fp16"]
    num_visual: tuple[int, ...]
    num_kv: tuple[int, ...]
    visual_before: tuple[int, ...]
    segments: tuple[int, ...]
    layout: Layout
    num_tuned: int
    num_head: int
    visual_kept: float
    bytes: int
    bundled: bool


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
    classes = _class_list(header["classes"])
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
        backbone=_backbone(header["backbone"]),
        fingerprint=_fingerprint(header["fingerprint"]),
        pool=name_word(header["pool"]),
        classes=classes,
        preprocessing=Preprocessing.from_dict(_object(header, "preprocessing")),
        prompts=prompts,
        metrics={name_word(name): _metric(name, value) for name, value in _object(header, "metrics").items()},
        versions={name_word(name): name_word(text) for name, text in _object(header, "versions").items()},
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


def names_problem(names: Sequence[object]) -> str:
    """What keeps these from being class names, or nothing: they are printed on terminals and pages."""
    if not names:
        return "there are none"
    for name in names:
        if not isinstance(name, str) or not name or len(name) > 500 or not all(map(_is_fit, name)):
            return f"{name!r} is not a printable name of 1 to 500 characters"
    return "" if len(set(names)) == len(names) else "two classes have the same name"


def _is_fit(character: str) -> bool:
    """Printable, or one of the spaces and joiners that names in many languages need."""
    return character.isprintable() or character in "\u200c\u200d" or unicodedata.category(character) == "Zs"


def _class_list(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"classes is a {type(value).__name__}; expected a list of names.")
    problem = names_problem(value)
    if problem:
        raise ValueError(f"classes: {problem}.")
    return tuple(value)


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


def name_word(value: object) -> str:
    """A name that is safe to print and to look up: letters, digits, dot, plus, dash, underscore.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise ValueError(f"{value!r} was found where letters, digits, '.', '+', '-', '_' are expected.")
    return value


def _backbone(value: object) -> str:
    return value if isinstance(value, str) and _HUB_NAME.fullmatch(value) else name_word(value)


def _fingerprint(value: object) -> str:
    if not isinstance(value, str) or not _FINGERPRINT.fullmatch(value):
        raise ValueError(f"fingerprint is {value!r}; expected 64 digits in hex.")
    return value


def _metric(name: str, value: object) -> float:
    """A finite number; an accuracy is a share, and neither losses nor epochs are below zero."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e300:
        raise ValueError(f"a metric is {value!r}; expected a finite number.")
    least, most = 0.0 if name.endswith(("accuracy", "loss", "epoch")) else -1e300, 1e300
    if not least <= value <= (1.0 if name.endswith("accuracy") else most):
        raise ValueError(
            f"the metric {name} is {value!r}; expected an accuracy from 0 to 1, no loss below 0."
        )
    return float(value)


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
