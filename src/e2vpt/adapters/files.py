"""The adapter file of a task: prompts, head, and all that is needed to use them on the same backbone.

One safetensors file. Tensors: `blocks.<i>.visual` and its mask (see `packing`), `blocks.<i>.key` [H, m, d],
`blocks.<i>.value` (only when not shared with the keys), `blocks.<i>.gate` [H] (of gated attention only),
`head.<name>`, and `tuned.<name>` for whatever else is tuned. The JSON header holds what `AdapterInfo` lists.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import NoneType
from typing import Any, Literal

import timm
import torch
from torch import Tensor, nn

from e2vpt.adapters.choosing import choose_backbone
from e2vpt.adapters.header import DTYPES, FORMAT_VERSION, parse_header
from e2vpt.adapters.info import AdapterInfo
from e2vpt.adapters.matching import check_backbone, check_tuned, check_weights, fitted, image_size, pooling
from e2vpt.adapters.packing import pack, unpack
from e2vpt.adapters.reading import Stored, read_stored
from e2vpt.adapters.words import names_problem
from e2vpt.backbones.families import plain_name, unwrapped
from e2vpt.backbones.fingerprint import fingerprint
from e2vpt.backbones.load import backbone_name, without_memory
from e2vpt.config import DataConfig, PromptConfig
from e2vpt.config.fields import require, to_dict
from e2vpt.data.preprocess import Preprocessing, preprocessing_for
from e2vpt.errors import BackboneMismatch, ConfigError, check_type
from e2vpt.files.container import write_container
from e2vpt.methods.adapt import Adapted, adapt, adapted_as, is_adapted, original_fingerprint
from e2vpt.prompting.parts import classifier, find_prompts, tuned_parameters
from e2vpt.prompting.prompts import BlockPrompts
from e2vpt.prompting.restoring import restore


def save_adapter(
    model: nn.Module,
    path: str | Path,
    *,
    classes: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    method: str | None = None,
    metrics: Mapping[str, float] | None = None,
    precision: Literal["fp32", "fp16"] = "fp32",
    backbone_fingerprint: str | None = None,
) -> int:
    """Write the adapter of a model of `prompt` or `adapt` atomically; the same model makes the same bytes.

    Where not given, `classes` are numbered, `preprocessing` is the backbone's own, `method` that of `adapt`;
    `backbone_fingerprint` saves hashing the weights again. Returns the file's bytes.

    Raises:
        ConfigError: the model has no prompts or no linear head, the class names do not fit the head, or
            something could not be read back: a number that is not finite, an image size that does not fit,
            a parameter that is trained and does not belong to the method.
        RunError: the file cannot be written.
    """
    check_type("model", model, nn.Module)
    check_type("classes", classes, Iterable, NoneType)
    require(precision in DTYPES, f"precision is {precision!r}; expected one of {', '.join(DTYPES)}.")
    model = unwrapped(model)
    made, layers = adapted_as(model), find_prompts(model)
    preprocessing = preprocessing or preprocessing_for(model, DataConfig())
    tensors, layout, segments = pack(layers)
    head = classifier(model)
    tensors |= {f"head.{name}": tensor for name, tensor in head.state_dict().items()}
    tensors |= {f"tuned.{name}": p.detach() for name, p in _tuned(model, made).items()}
    tensors = {name: t if name == "keep" else t.to(DTYPES[precision]) for name, t in tensors.items()}
    header = {
        "format": FORMAT_VERSION,
        "method": method or made.method,
        "options": to_dict(made.options),
        "backbone": backbone_name(model),
        "fingerprint": backbone_fingerprint or original_fingerprint(model),
        "pool": pooling(model),
        "blocks": made.num_blocks,
        "visual_before": [layer.visual_before for layer in layers] or [0] * made.num_blocks,
        "layout": layout,
        "segments": segments,
        "classes": list(_checked_classes(model, classes)),
        "preprocessing": preprocessing.to_dict(),
        "prompts": to_dict(_current(made.prompts, layers)),
        "metrics": {name: float(value) for name, value in sorted((metrics or {}).items())},
        "versions": _versions(),
        "precision": precision,
    }
    _check_readable(model, header, tensors, preprocessing)
    return write_container(path, header, tensors)


def read_adapter(path: str | Path) -> AdapterInfo:
    """What an adapter file says of itself; no backbone is needed.

    Raises:
        AdapterFormatError: truncated, altered, hostile, or of a newer format.
    """
    return read_stored(path).info


def load_adapter(
    path: str | Path, backbone: nn.Module | str | None = None, *, weights: str | Path | None = None
) -> tuple[nn.Module, AdapterInfo]:
    """Put an adapter on its backbone: the model in eval mode, and what the file says.

    `backbone` is a timm model (changed and returned; an adapter that is on it gives way), a name, or None for
    the name in the file; `weights` as in `load_backbone`, where they are not those in a bundle. The backbone
    is changed only when everything fits, which a copy without memory for its weights shows first; nothing is
    drawn from the global random state.

    Raises:
        AdapterFormatError: truncated, altered, hostile, or of a newer format.
        BackboneMismatch: the backbone is not the one the adapter was made for.
        BackboneError: the backbone cannot be made or takes no prompts, as in `load_backbone`.
        ConfigError: the backbone was tuned itself, by a method such as full fine-tuning; `weights` beside a
            model.
    """
    check_type("backbone", backbone, nn.Module, str, NoneType)
    return load_stored(path, read_stored(path), backbone, weights=weights)


def load_stored(
    path: str | Path, stored: Stored, backbone: nn.Module | str | None, *, weights: str | Path | None
) -> tuple[nn.Module, AdapterInfo]:
    """`load_adapter`, of a file that was read already."""
    info, tensors = stored.info, stored.tensors
    if isinstance(backbone, nn.Module) and weights is not None:
        raise ConfigError("weights have no effect beside a backbone that is a model. Leave one of them out.")
    with random_state_kept():
        if isinstance(backbone, nn.Module):
            model, blank = backbone, without_memory(backbone)
            restore(blank)
            rehearse(path, info, tensors, blank)
            check_weights(path, info, model, _weights(model))
            restore(model)
        else:
            chosen = choose_backbone(path, stored, backbone, weights)
            rehearse(path, info, tensors, chosen.planned(len(info.classes)))
            model = chosen.loaded(len(info.classes))
            check_weights(path, info, model, fingerprint(model))
        adapt(model, info.method, info.prompts, info.options, weights=info.fingerprint)
        _fit_head(model, tensors["head.weight"])
        _fill(model, info, fitted(tensors, model))
    return model.eval(), info


def _weights(model: nn.Module) -> str:
    """The fingerprint of a backbone, also of one that has been adapted."""
    return original_fingerprint(model) if is_adapted(model) else fingerprint(model)


def rehearse(path: str | Path, info: AdapterInfo, tensors: Mapping[str, Tensor], model: nn.Module) -> None:
    """Put an adapter on a backbone that has no memory: whatever does not fit is found before any is spent.

    Raises:
        BackboneMismatch: something does not fit.
    """
    check_backbone(path, info, tensors, model)
    try:
        with torch.device("meta"):
            adapt(model, info.method, info.prompts, info.options, weights=info.fingerprint)
    except ConfigError as error:
        raise BackboneMismatch(f"{path} has settings that do not fit this backbone: {error}") from error
    check_tuned(path, info, fitted(tensors, model), tuned_parameters(model))


@contextmanager
def random_state_kept() -> Iterator[None]:
    """What is drawn inside, initial values that the file replaces, is not missing outside."""
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=gpus):
        yield


def _tuned(model: nn.Module, made: Adapted) -> dict[str, Tensor]:
    """What the method tunes beside prompts and head, also where it was frozen since."""
    parameters = {plain_name(name): parameter for name, parameter in model.named_parameters()}
    different = sorted(tuned_parameters(model).keys() - set(made.tuned) | set(made.tuned) - parameters.keys())
    if different:
        raise ConfigError(
            f"An adapter of method {made.method} cannot hold {', '.join(different[:4])}: a parameter trained "
            "or removed beside what e2vpt.adapt set up. Adapt with the method that tunes it."
        )
    return {name: parameters[name] for name in made.tuned}


def _current(config: PromptConfig, layers: Sequence[BlockPrompts]) -> PromptConfig:
    """The settings with the counts the model has now, which pruning may have changed."""
    if not layers:
        return config
    counts: dict[str, Any] = {
        "num_visual": tuple(layer.num_visual for layer in layers),
        "num_kv": tuple(layer.num_kv for layer in layers),
    }
    unchanged = (config.visual_counts(len(layers)), config.kv_counts(len(layers))) == tuple(counts.values())
    return config if unchanged else dataclasses.replace(config, **counts)


def _checked_classes(model: nn.Module, classes: Sequence[str] | None) -> tuple[str, ...]:
    head = classifier(model)
    if not isinstance(head, nn.Linear) or head.bias is None:
        raise ConfigError(f"An adapter holds a linear head with a bias; this model's head is {head}.")
    names = tuple(map(str, range(head.out_features))) if classes is None else tuple(classes)
    problem = names_problem(names)
    if problem:
        raise ConfigError(f"These class names cannot be stored: {problem}.")
    if len(names) != head.out_features:
        raise ConfigError(f"{len(names)} class names for a head of {head.out_features} outputs.")
    return names


def _check_readable(
    model: nn.Module, header: Mapping[str, Any], tensors: Mapping[str, Tensor], preprocessing: Preprocessing
) -> None:
    """Hold what is about to be written to what `load_adapter` will demand of it."""
    size = image_size(model)
    if size not in (None, preprocessing.image_size):
        raise ConfigError(
            f"The preprocessing makes images of {preprocessing.image_size}, the model needs {size}."
        )
    try:
        parse_header(header, tensors, 0)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"This model cannot be stored as an adapter: {error}") from error


def _versions() -> dict[str, str]:
    import e2vpt  # not at the top: the package imports this module

    libraries = {module.__name__: module.__version__ for module in (e2vpt, timm)}
    return {"python": platform.python_version(), **libraries, "torch": importlib.metadata.version("torch")}


def _fit_head(model: nn.Module, weight: Tensor) -> None:
    """A fresh linear head, beside the rest of the model, where its own is not of this shape."""
    head = classifier(model)
    if not isinstance(head, nn.Linear) or head.bias is None or head.weight.shape != weight.shape:
        model.reset_classifier(len(weight))  # type: ignore[operator]
        classifier(model).to(next(model.parameters()))


@torch.no_grad()
def _fill(model: nn.Module, info: AdapterInfo, tensors: Mapping[str, Tensor]) -> None:
    layers, head = find_prompts(model), classifier(model)
    unpack(layers, tensors, info.segments, info.layout)
    for layer, before in zip(layers, info.visual_before if layers else (), strict=True):
        layer.visual_before = before
    for name in ("weight", "bias"):
        getattr(head, name).copy_(tensors[f"head.{name}"])
    for name, parameter in tuned_parameters(model).items():
        parameter.copy_(tensors[f"tuned.{name}"])
