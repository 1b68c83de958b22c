"""What an adapter file says of itself, once it has been checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from e2vpt.config import MethodConfig, PromptConfig
from e2vpt.config.pruning import Layout
from e2vpt.data.preprocess import Preprocessing


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
