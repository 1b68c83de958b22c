"""A backbone by name: timm's, one of the paper's four, or the small one that this package ships.

What comes out is in eval mode, without dropout or drop path, under a fresh head.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from numbers import Integral
from os import PathLike
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg, is_model, split_model_name_tag
from torch import nn

from e2vpt.backbones.checkpoint_layouts import WeightTensors
from e2vpt.backbones.demo import DEMO_WEIGHTS, build_demo
from e2vpt.backbones.families import is_swin, known_blocks, pretrained_cfg
from e2vpt.backbones.presets import PRESETS
from e2vpt.backbones.supported import near_names, where_to_start
from e2vpt.backbones.weight_files import read_weights
from e2vpt.backbones.weights import load_weights
from e2vpt.errors import BackboneError, WeightsError, check_type, visible
from e2vpt.files.downloads import fetch
from e2vpt.files.hub import ON_THE_HUB

_MOST_CLASSES, _LARGEST_SIDE = 2**24, 2**16
_MOST_PATCHES = {"vit": 2**13, "swin": 2**16}
"""Of an image: attention costs their square in a ViT, and files of strangers name image sizes."""
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def load_backbone(
    name: str, *, num_classes: int, weights: str | Path | None = None, image_size: int | None = None
) -> nn.Module:
    """A pretrained backbone of a known family with a fresh head, in eval mode, all drop rates 0.

    Args:
        name: one of PRESETS, a timm name with or without a tag, or "hf-hub:owner/name".
        num_classes: classes C of the head; 0 for none.
        weights: a file of the backbone's weights: .safetensors, .pth, .pt, .bin, .pth.tar, or .npz of the JAX
            release. Without it, the cache of the Hugging Face hub, else a download.
        image_size: side in pixels, where it is not the pretrained one; positions are resampled.

    Raises:
        UnsupportedBackbone: prompts cannot enter it; found before anything is downloaded.
        WeightsError: the weights are missing, do not fit, or cannot be read safely.
        BackboneError: an unknown name or an image size that cannot be.
        ConfigError: an argument of another type.
    """
    if weights is not None:
        check_type("weights", weights, str, PathLike)
    plan = planned_backbone(name, num_classes=num_classes, image_size=image_size)
    path = Path(weights).expanduser() if weights is not None else _pretrained_file(name, plan)
    # Before memory is spent on the model.
    return backbone_from(read_weights(path), path, name, num_classes=num_classes, image_size=image_size)


def backbone_from(
    state: WeightTensors, source: str | Path, name: str, *, num_classes: int, image_size: int | None = None
) -> nn.Module:
    """As `load_backbone`, from weights that were read already; `source` is where, for messages.

    Raises:
        UnsupportedBackbone, WeightsError, BackboneError: as `load_backbone`.
    """
    model = build_backbone(name, num_classes=num_classes, image_size=image_size)
    load_weights(model, state, source)
    if image_size is not None:  # only now: timm reads the pretrained size from here while it resamples
        cfg = {**pretrained_cfg(model), "input_size": (3, image_size, image_size)}
        model.pretrained_cfg = model.default_cfg = cfg  # type: ignore[assignment]
    return model.eval()


def build_backbone(
    name: str, *, num_classes: int, image_size: int | None = None, depth: int | None = None
) -> nn.Module:
    """A backbone as `load_backbone` gives it, but with random weights; `depth` is another number of blocks.

    Raises:
        UnsupportedBackbone, BackboneError: as `load_backbone`.
    """
    check_type("name", name, str)
    if not isinstance(num_classes, Integral) or not 0 <= num_classes <= _MOST_CLASSES:
        raise BackboneError(f"num_classes must be 0 or more, got {num_classes!r}.")
    if image_size is not None:
        check_type("image_size", image_size, Integral)
        if image_size > _LARGEST_SIDE:
            raise BackboneError(f"image_size={image_size} is too large; the most is {_LARGEST_SIDE}.")
    asked = {"img_size": image_size, "depth": depth}
    options = {option: value for option, value in asked.items() if value is not None}
    model = build_demo(num_classes, options) if name == "demo" else _build(name, num_classes, options)
    known_blocks(model)
    _check_image_size(model, image_size)
    return model


def planned_backbone(name: str, *, num_classes: int, image_size: int | None = None) -> nn.Module:
    """As `build_backbone`, without memory for its weights: on the device `meta`."""
    with torch.device("meta"):
        return build_backbone(name, num_classes=num_classes, image_size=image_size)


def without_memory(model: nn.Module) -> nn.Module:
    """A copy of a model on the device `meta`."""
    empty: dict[int, Any] = {id(b): b.to("meta") for b in model.buffers()}
    empty |= {id(p): nn.Parameter(p.to("meta"), requires_grad=p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, empty)


def backbone_name(model: nn.Module) -> str:
    """The name that load_backbone takes for this model, "" for a model made by hand."""
    cfg = pretrained_cfg(model)
    if cfg.get("preset"):
        return str(cfg["preset"])
    if cfg.get("source") == "hf-hub":
        return f"{ON_THE_HUB}{cfg['hf_hub_id']}"
    return ".".join(str(part) for part in (cfg.get("architecture"), cfg.get("tag")) if part)


def _build(name: str, num_classes: int, asked: Mapping[str, int]) -> nn.Module:
    """The timm model, weights still random."""
    preset = PRESETS.get(name)
    timm_name, options = name, {}
    if preset is not None:
        timm_name, options = preset.timm_name, dict(preset.options)
    elif name.startswith(ON_THE_HUB):
        timm_name, options = _hub_model(name.removeprefix(ON_THE_HUB))
    _check_known(timm_name)
    options |= {"num_classes": num_classes, "drop_path_rate": 0.0, **asked}
    try:
        model: nn.Module = timm.create_model(timm_name, **options)
    except (
        Exception
    ) as error:  # an option this class does not take, or an image size its arithmetic cannot do
        known_blocks(timm.create_model(timm_name))
        words = ", ".join(f"{option}={value}" for option, value in asked.items()).replace(
            "img_size", "image_size"
        )
        raise BackboneError(f"timm cannot build {name} with {words}: {error}") from error
    if preset is not None:
        pretrained_cfg(model)["preset"] = name
    _still(model)
    return model


def _still(model: nn.Module) -> None:
    """Positions as they are: some models scale and shift theirs by chance while they train."""
    positions: Any = getattr(model, "rope", None)
    if getattr(positions, "aug_active", False):
        positions.aug_active = False


_NOT_FROM_A_FILE = {
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"),
    *("scriptable", "exportable", "no_jit"),
}
"""Arguments of timm's `create_model` that say what is read from where, or how, and not what a model is."""


def _hub_model(repository: str) -> tuple[str, dict[str, Any]]:
    """Architecture and options of a timm model on the hub, from its config.json only."""
    path = fetch(repository, ["config.json"])
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        architecture, cfg = str(config["architecture"]), dict(config["pretrained_cfg"])
        model_args = dict(config.get("model_args") or {})
    except (KeyError, TypeError, ValueError) as error:
        raise BackboneError(
            f"hf-hub:{repository} is not a timm model: its config.json lacks an architecture. "
            "Use a repository in timm's format, such as those of hf-hub:timm."
        ) from error
    foreign = sorted(_NOT_FROM_A_FILE & model_args.keys())
    if foreign:
        raise BackboneError(
            f"hf-hub:{repository}: its config.json sets {', '.join(foreign)}, which a file must not choose."
        )
    options = {key: value for key, value in model_args.items() if not key.endswith("drop_rate")}
    return architecture, {**options, "pretrained_cfg": {**cfg, "hf_hub_id": repository, "source": "hf-hub"}}


def _check_known(name: str) -> None:
    architecture, tag = split_model_name_tag(name)
    known = is_model(architecture) and not set(name) & set(":/\\")
    if known and tag:
        try:
            get_pretrained_cfg(name, allow_unregistered=False)
        except RuntimeError:
            known = False
    if not known:
        near = near_names(name)
        raise BackboneError(
            f"There is no backbone '{visible(name)}'. "
            + (f"Closest: {', '.join(near)}. " if near else f"{where_to_start()} ")
            + f"Names are timm's, hf-hub:owner/name, or {', '.join(PRESETS)}."
        )


def largest_image(model: nn.Module) -> int:
    """The side in pixels of the largest square images that a backbone is used for."""
    patch = int(model.patch_embed.patch_size[0])  # type: ignore[union-attr, index]
    return math.isqrt(_MOST_PATCHES["swin" if is_swin(model) else "vit"]) * patch


def _check_image_size(model: nn.Module, image_size: int | None) -> None:
    patch = int(model.patch_embed.patch_size[0])  # type: ignore[union-attr, index]
    if image_size is None or image_size == pretrained_cfg(model)["input_size"][-1]:
        return  # some were pretrained with a border left over: 384 pixels in patches of 14
    if image_size > largest_image(model):
        raise BackboneError(
            f"image_size={image_size} is too large for patches of {patch} pixels; the most is "
            f"{largest_image(model)}."
        )
    if image_size < patch or image_size % patch:
        nearest = max(patch, round(image_size / patch) * patch)
        raise BackboneError(
            f"image_size={image_size} does not divide into patches of {patch} pixels; nearest is {nearest}."
        )


def _pretrained_file(name: str, model: nn.Module) -> Path:
    if name == "demo":
        if not DEMO_WEIGHTS.is_file():
            raise WeightsError(
                f"This installation lacks {DEMO_WEIGHTS}. Reinstall e2vpt, or give weights=FILE."
            )
        return DEMO_WEIGHTS
    cfg = pretrained_cfg(model)
    source = PRESETS[name].source if name in PRESETS else cfg.get("url")
    if not cfg.get("hf_hub_id"):
        where = f"Download {source} and give that file" if source else "Give a file of its weights"
        raise WeightsError(
            f"No hub repository has weights for {name}. {where}: weights=FILE, or --weights FILE."
        )
    filename = cfg.get("hf_hub_filename")
    return fetch(cfg["hf_hub_id"], [filename] if filename else _HUB_FILES)
