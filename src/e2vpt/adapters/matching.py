"""Whether a backbone is the one an adapter was made for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from e2vpt.adapters.info import AdapterInfo
from e2vpt.adapters.packing import count_kept, split_masks
from e2vpt.backbones.families import plain_name
from e2vpt.backbones.load import backbone_name, largest_image
from e2vpt.errors import BackboneMismatch
from e2vpt.prompting.sites import Site, find_sites
from e2vpt.prompting.tuned_linear import TunedLinear, cut_key_bias


def check_backbone(
    path: str | Path, info: AdapterInfo, tensors: Mapping[str, Tensor], model: nn.Module
) -> None:
    """Refuse a backbone of another shape, pooling or image size, in that order; its weights are not read.

    Raises:
        BackboneMismatch: naming the first difference.
        ConfigError: the backbone has prompts.
        UnsupportedBackbone: it takes no prompts.
    """
    made_for, found = _made_for(path, info), _found(model)
    sites = find_sites(model)
    if len(sites) != len(info.num_visual):
        raise BackboneMismatch(f"{made_for} with {len(info.num_visual)} blocks; {found} has {len(sites)}.")
    for site, num_segments in zip(sites, info.segments, strict=False):
        if num_segments and site.width % num_segments:
            raise BackboneMismatch(
                f"{made_for}: its masks have {num_segments} segments, which do not divide the {site.width} "
                f"channels of {found}."
            )
    for site, before in zip(sites, info.visual_before, strict=True):
        if before % site.width:
            raise BackboneMismatch(
                f"{made_for}: visual_before is {before}, no prompts of {site.width} channels of {found}."
            )
    masks = split_masks(tensors["keep"], info.num_visual, info.segments) if info.segments else []
    for name, tensor in tensors.items():
        if name.startswith("tuned."):
            continue
        wanted = _site_shape(name, tensor, info, sites, model, masks)
        if tuple(tensor.shape) != wanted:
            raise BackboneMismatch(
                f"{made_for}: its {name} has shape {tuple(tensor.shape)}, {found} needs {wanted}."
            )
    if info.pool != pooling(model):
        raise BackboneMismatch(f"{made_for} with {info.pool!r} pooling; {found} pools by {pooling(model)!r}.")
    size, asked = image_size(model), info.preprocessing.image_size
    if size is None and max(asked) > largest_image(model):
        raise BackboneMismatch(
            f"{made_for} and images of {asked} pixels; {found} takes at most {largest_image(model)} a side."
        )
    if size not in (None, asked):
        raise BackboneMismatch(
            f"{made_for} and images of {asked} pixels; {found} is built for {size}. "
            "Load the backbone for the adapter's size."
        )


def check_weights(path: str | Path, info: AdapterInfo, model: nn.Module, weights: str) -> None:
    """Refuse a backbone of other weights, of which `weights` is the fingerprint.

    Raises:
        BackboneMismatch: with both fingerprints.
    """
    if info.fingerprint != weights:
        raise BackboneMismatch(
            f"{_made_for(path, info)}, and {_found(model)} has other weights (fingerprint {weights[:12]}, "
            f"expected {info.fingerprint[:12]}). Load the weights the adapter was trained on, in float32."
        )


def fitted(tensors: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """A file's tensors, without biases of keys where the model has none.

    Earlier versions trained and stored them wherever biases are tuned, also where no softmax sees them.
    """
    cut = dict(tensors)
    for name, module in model.named_modules():
        stored = cut.get(f"tuned.{plain_name(name)}.bias")
        if stored is None or not isinstance(module, TunedLinear) or module.has_key_bias:
            continue
        if stored.shape == module.weight.shape[:1]:
            cut[f"tuned.{plain_name(name)}.bias"] = cut_key_bias(stored)
    return cut


def check_tuned(
    path: str | Path,
    info: AdapterInfo,
    tensors: Mapping[str, Tensor],
    parameters: Mapping[str, Tensor],
) -> None:
    """Hold what a file tunes beside prompts and head to what its method tunes of this model.

    Raises:
        BackboneMismatch: other names or shapes.
    """
    stored = {name[6:]: tuple(t.shape) for name, t in tensors.items() if name.startswith("tuned.")}
    needed = {name: tuple(p.shape) for name, p in parameters.items()}
    different = sorted(name for name in {*stored, *needed} if stored.get(name) != needed.get(name))
    if different:
        name = different[0]
        raise BackboneMismatch(
            f"{path} was made by method {info.method}: its {name} has shape {stored.get(name)}, this "
            f"backbone needs {needed.get(name)} ({len(different)} differ)."
        )


def _made_for(path: str | Path, info: AdapterInfo) -> str:
    return f"{path} was made for {info.backbone or 'a backbone without a name'}"


def _found(model: nn.Module) -> str:
    return backbone_name(model) or type(model).__name__


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
    name: str,
    tensor: Tensor,
    info: AdapterInfo,
    sites: Sequence[Site],
    model: nn.Module,
    masks: Sequence[Tensor],
) -> tuple[int, ...]:
    """The shape a stored tensor must have on these sites, its count taken as it is."""
    if name == "keep":
        return tuple(tensor.shape)
    scope, *_, kind = name.split(".")
    if scope == "head":
        width = int(getattr(model, "head_hidden_size", model.num_features))  # type: ignore[arg-type]
        return (tensor.shape[0], width) if kind == "weight" else (tensor.shape[0],)
    index = int(name.split(".")[1])
    site = sites[index]
    if kind in ("key", "value"):
        return (site.num_heads, tensor.shape[1], site.head_dim)
    if kind == "gate":
        return (site.num_heads,)
    num_segments = info.segments[index] if info.segments else 1
    if tensor.dim() == 2:
        return (info.num_visual[index], site.width)
    return (count_kept(masks[index]) * site.width // num_segments,)
