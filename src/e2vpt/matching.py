"""Whether a backbone is the one an adapter was made for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from e2vpt.backbones import backbone_name, fingerprint
from e2vpt.errors import BackboneMismatch
from e2vpt.header import AdapterInfo
from e2vpt.packing import mask_of
from e2vpt.sites import Site, find_sites


def check_backbone(
    path: str | Path, info: AdapterInfo, tensors: Mapping[str, Tensor], model: nn.Module
) -> None:
    """Refuse a backbone of another shape, pooling, image size or weights, in that order.

    Raises:
        BackboneMismatch: naming the first difference.
        ConfigError: the backbone has prompts already.
        UnsupportedBackbone: it takes no prompts.
    """
    made_for = f"{path} was made for {info.backbone or 'a backbone without a name'}"
    found = backbone_name(model) or type(model).__name__
    sites = find_sites(model)
    if len(sites) != len(info.num_visual):
        raise BackboneMismatch(f"{made_for} with {len(info.num_visual)} blocks; {found} has {len(sites)}.")
    for name, tensor in tensors.items():
        wanted = _site_shape(name, tensors, sites, model)
        if tuple(tensor.shape) != wanted:
            raise BackboneMismatch(
                f"{made_for}: its {name} has shape {tuple(tensor.shape)}, {found} needs {wanted}."
            )
    if info.pool != pooling(model):
        raise BackboneMismatch(f"{made_for} with {info.pool!r} pooling; {found} pools by {pooling(model)!r}.")
    size = image_size(model)
    if size not in (None, info.preprocessing.image_size):
        raise BackboneMismatch(
            f"{made_for} and images of {info.preprocessing.image_size} pixels; {found} is built for {size}. "
            "Load the backbone for the adapter's size."
        )
    weights = fingerprint(model)
    if info.fingerprint != weights:
        raise BackboneMismatch(
            f"{made_for}, and {found} has other weights (fingerprint {weights[:12]}, expected "
            f"{info.fingerprint[:12]}). Load the weights the adapter was trained on, in float32."
        )


def image_size(model: nn.Module) -> tuple[int, int] | None:
    """The only (H, W) a model takes, or None where it takes several."""
    embed: Any = model.patch_embed
    if embed.img_size is None or not getattr(embed, "strict_img_size", True):
        return None
    height, width = embed.img_size
    return int(height), int(width)


def pooling(model: nn.Module) -> str:
    """How a timm model reads out its tokens: "token", "avg" or "map"."""
    return str(getattr(model, "global_pool", ""))


def _site_shape(
    name: str, tensors: Mapping[str, Tensor], sites: Sequence[Site], model: nn.Module
) -> tuple[int, ...]:
    """The shape a stored tensor must have on these sites, its count taken as it is."""
    parts = name.split(".")
    scope, kind = parts[0], parts[-1]
    count = tensors[name].shape[0]
    if scope == "head":
        width = int(getattr(model, "head_hidden_size", model.num_features))  # type: ignore[arg-type]
        return (count, width) if kind == "weight" else (count,)
    index = int(parts[1]) if scope == "blocks" else 0
    site, mask = sites[index], mask_of(tensors, index)
    if kind in ("key", "value"):
        return (site.num_heads, tensors[name].shape[1], site.head_dim)
    if mask is None:
        return (count, site.width)
    num_segments = mask.shape[1]
    if num_segments == 0 or site.width % num_segments:
        return (len(mask), site.width)
    return tuple(mask.shape) if kind == "keep" else (int(mask.sum()) * site.width // num_segments,)
