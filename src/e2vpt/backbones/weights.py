"""Weights into a model: older names and other image sizes converted, and nothing missing or left over."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from timm.models import beit, eva, swin_transformer, swin_transformer_v2, vision_transformer
from torch import nn

from e2vpt.backbones.checkpoint_layouts import WeightTensors
from e2vpt.backbones.families import is_swin, pretrained_cfg
from e2vpt.backbones.weight_files import first_line
from e2vpt.errors import WeightsError, some

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_HEADS = ("head.", "head_dist.", "pre_logits.")
# timm derives them from the window size; the original Swin files store them.
_SWIN_BUFFERS = ("relative_position_index", "relative_coords_table", "attn_mask")
_CONVERSIONS: Mapping[type[nn.Module], Callable[..., WeightTensors]] = {
    vision_transformer.VisionTransformer: partial(
        vision_transformer.checkpoint_filter_fn, adapt_layer_scale=True
    ),
    swin_transformer.SwinTransformer: swin_transformer.checkpoint_filter_fn,
    swin_transformer_v2.SwinTransformerV2: swin_transformer_v2.checkpoint_filter_fn,
    eva.Eva: eva.checkpoint_filter_fn,
    beit.Beit: beit.checkpoint_filter_fn,
}
"""timm's own, of older names and other image sizes."""


def load_weights(model: nn.Module, state: WeightTensors, source: str | Path) -> None:
    """Load every tensor of `state` into a timm model, except heads: the model keeps its own.

    Position embeddings and Swin's bias tables are resampled to the model's image size.

    Raises:
        WeightsError: a tensor is missing, left over, of another shape, or not finite; nothing is loaded.
    """
    expected = model.state_dict()
    head = head_names(model)
    state = _convert(model, state, source)
    norm = _fresh_norm(model, state)
    unused = (*_HEADS, *_other_read_out(model), *(["norm."] if norm else []))
    state = {name: value for name, value in state.items() if not name.startswith(unused)}
    fresh = head | norm
    problems = _problems(state, {name: expected[name] for name in expected.keys() - fresh})
    if problems:
        raise WeightsError(
            f"{source} does not fit this {_describe(model)}:\n"
            + "\n".join(f"  {line}" for line in problems)
            + "\n"
            "Name the backbone that this file was made for, or give the file of this backbone."
        )
    model.load_state_dict({**{name: expected[name] for name in fresh}, **state}, strict=True)


def head_names(model: nn.Module) -> set[str]:
    """Names of the classifier head's parameters."""
    head = {id(parameter) for parameter in model.get_classifier().parameters()}  # type: ignore[operator]
    return {name for name, parameter in model.named_parameters() if id(parameter) in head}


def _convert(model: nn.Module, state: WeightTensors, source: str | Path) -> WeightTensors:
    """timm's own conversion of older names, and its resampling to the model's image size."""
    patch, expected = state.get("patch_embed.proj.weight"), model.state_dict()["patch_embed.proj.weight"]
    if patch is not None and patch.dim() == 4 and patch.shape != expected.shape:
        # timm would resample the patch embedding too: another patch size is another backbone.
        raise WeightsError(
            f"{source} does not fit this {_describe(model)}: patch_embed.proj.weight is {list(patch.shape)}, "
            f"expected {list(expected.shape)}. Name the backbone that this file was made for."
        )
    if is_swin(model):
        state = {key: value for key, value in state.items() if not key.endswith(_SWIN_BUFFERS)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice to timm on how to resample faster
            return dict(_CONVERSIONS[type(model)](state, model))
    except Exception as error:  # timm trusts shapes, so wrong ones fail anywhere in its arithmetic
        raise WeightsError(
            f"{source} does not fit this {_describe(model)}: timm cannot convert it ({first_line(error)}). "
            "Name the backbone that this file was made for, or give the file of this backbone."
        ) from error


def _other_read_out(model: nn.Module) -> tuple[str, ...]:
    """timm takes SigLIP without its attention pooling on purpose; the file has it all the same."""
    return ("attn_pool.",) if getattr(model, "attn_pool", model) is None else ()


def _fresh_norm(model: nn.Module, state: WeightTensors) -> set[str]:
    """The norm behind average pooling, if it stays at 1 and 0 because the file has one for single tokens.

    VPT and E²VPT do the same with MAE.
    """
    names = {name for name in model.state_dict() if name.startswith("fc_norm.")}
    return names if "norm.weight" in state and not names & state.keys() else set()


def _problems(state: WeightTensors, expected: WeightTensors) -> list[str]:
    shared = sorted(state.keys() & expected.keys())
    shapes = [
        f"{name} {list(state[name].shape)} (expected {list(expected[name].shape)})"
        for name in shared
        if state[name].shape != expected[name].shape
    ]
    found = {
        "missing": sorted(expected.keys() - state.keys()),
        "left over": sorted(state.keys() - expected.keys()),
        "of another shape": shapes,
        "not of float16, bfloat16, float32 or float64": [n for n in shared if state[n].dtype not in _DTYPES],
    }
    if not any(found.values()):  # shapes and kinds first: what does not fit is not read
        found["not finite"] = [name for name in shared if not bool(state[name].isfinite().all())]
    return [f"{what}: {some(names)}" for what, names in found.items() if names]


def _describe(model: nn.Module) -> str:
    architecture = pretrained_cfg(model).get("architecture")
    return f"{architecture or type(model).__name__}"
