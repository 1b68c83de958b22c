"""Weight files, read without running code in them, by the names of their backbone alone.

Layouts: timm's own, the JAX release of ViT (.npz), the original Swin release, MAE with or without its
decoder, MoCo v3 with or without its momentum encoder, and any of them inside a larger model.
"""

from __future__ import annotations

import argparse
import math
import pickle
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from e2vpt.errors import WeightsError, visible
from e2vpt.files.paths import listed, look_at

WeightTensors = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointLayout:
    """How a checkpoint holds a backbone beside other things.

    Attributes:
        marker: a key that starts so tells this layout.
        prefix: what stands before the backbone's own names.
        ignored: starts of keys that belong to no backbone.
    """

    marker: str
    prefix: str = ""
    ignored: tuple[str, ...] = ()


_LAYOUTS = (
    CheckpointLayout(  # MoCo v3 pre-training; its file for linear evaluation has plain names
        marker="base_encoder.",
        prefix="base_encoder.",
        ignored=("base_encoder.head.", "momentum_encoder.", "predictor."),
    ),
    CheckpointLayout(marker="decoder_", ignored=("decoder_", "mask_token")),  # MAE with its decoder
    CheckpointLayout(marker="backbone.", prefix="backbone.", ignored=("head.", "backbone.head.")),
    CheckpointLayout(marker=""),
)
_CONTAINERS = ("state_dict_ema", "model_ema", "state_dict", "model")
_MOST_PACKED = 10
"""Random numbers hardly pack at all."""
_WRAPPERS = ("_orig_mod.", "module.", "model.", "backbone.")


def read_weights(path: Path) -> WeightTensors:
    """The tensors of a weights file by the backbone's own names; the file's code, if any, is never run.

    Raises:
        WeightsError: the file is missing, truncated, needs code to be read, or holds no weights.
    """
    reader = _reader(path)
    try:
        _check_unpacked(path)
        content = reader(path)
    except pickle.UnpicklingError as error:
        raise WeightsError(_refusal(path, error)) from error
    except Exception as error:  # what parsers raise on damaged bytes is open-ended
        raise WeightsError(
            f"{path} cannot be read: {type(error).__name__}: {first_line(error)} "
            "The file is truncated, damaged or of another format than its suffix says; copy it again."
        ) from error
    state = _backbone_names(_unwrap(content, path), path)
    odd = {name: kind for name, tensor in state.items() if (kind := _oddness(tensor))}
    if odd:
        listed = some(f"{name} ({kind})" for name, kind in odd.items())
        raise WeightsError(f"{path} holds tensors that are no plain arrays of numbers: {listed}.")
    return state


def _oddness(tensor: Tensor) -> str:
    """What keeps a tensor from being used as numbers in memory, or nothing; no value is looked at."""
    if tensor.is_nested or tensor.layout != torch.strided:
        return "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
    if tensor.is_quantized or tensor.device.type != "cpu":
        return "quantized" if tensor.is_quantized else f"on device {tensor.device.type}"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"{list(tensor.shape)} of fewer stored numbers"
    return ""


def _check_unpacked(path: Path) -> None:
    """Refuse an archive that packs far more than it weighs, before any of it is unpacked."""
    if path.suffix.lower() == ".safetensors" or not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > _MOST_PACKED * path.stat().st_size + 2**26:
            raise ValueError(f"it would unpack to {unpacked} bytes, more than weights pack")
        if path.suffix.lower() == ".npz":
            for entry in archive.infolist():
                _check_array(archive, entry)


def _check_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Refuse an array that says it is larger than its bytes: numpy would take memory by its word."""
    with archive.open(entry) as file:
        if np.lib.format.read_magic(file) == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        if math.prod(shape) * dtype.itemsize > entry.file_size:
            raise ValueError(f"{visible(entry.filename)} says {list(shape)} and has fewer bytes")


def check_weights_file(path: Path) -> None:
    """See that there is a file of a known kind, without reading it.

    Raises:
        WeightsError: there is none, or its name has an unknown ending.
    """
    _reader(path)


def some(names: Iterable[str], limit: int = 4) -> str:
    """The first names, and how many more there are."""
    names = [visible(name) for name in names]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def first_line(error: Exception) -> str:
    """What an exception of a library says, short enough for a message of ours.

    Not torch's words on `weights_only`: they recommend to run what a file holds.
    """
    text = str(error).strip().splitlines()
    return f"{text[0].rstrip('.')}." if text and "weights_only" not in str(error) else "no message."


def _reader(path: Path) -> Callable[[Path], object]:
    suffixes = ", ".join(_READERS)
    kind = look_at(path, WeightsError)
    if kind == "folder":
        inside = ", ".join(
            sorted(file.name for file in listed(path, WeightsError) if file.suffix in _READERS)[:5]
        )
        raise WeightsError(
            f"{path} is a folder; give the weights file itself ({suffixes})."
            + (f" Found in it: {inside}." if inside else "")
        )
    if kind != "file":
        raise WeightsError(f"There is no weights file {path}. Check the path, or leave it out to download.")
    if path.suffix.lower() not in _READERS:
        raise WeightsError(f"{path} has the suffix '{path.suffix}'; weights files end in {suffixes}.")
    return _READERS[path.suffix.lower()]


def _read_safetensors(path: Path) -> WeightTensors:
    return safetensors.torch.load_file(path)


def _read_torch(path: Path) -> object:
    # timm's training files hold their arguments as a Namespace, which is data; torch 2.4 refuses it.
    allow = getattr(torch.serialization, "safe_globals", nullcontext)
    with allow([argparse.Namespace]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _read_npz(path: Path) -> WeightTensors:
    """A release file of the JAX ViT, by timm's names; names that are not of that release stay as they are."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:  # numpy alone leaks a bad file
        state = {_jax_name(name): _jax_tensor(name, torch.from_numpy(arrays[name])) for name in arrays}
    for name in [name for name in state if ".attn.query." in name]:
        parts = [name.replace(".query.", part) for part in (".query.", ".key.", ".value.")]
        if all(part in state for part in parts):
            state[name.replace(".query.", ".qkv.")] = torch.cat([state.pop(part) for part in parts])
    return state


_READERS: dict[str, Callable[[Path], object]] = {
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".bin": _read_torch,
    ".tar": _read_torch,  # MoCo's .pth.tar is a plain torch file
}
_JAX_NAMES = {
    "embedding/": "patch_embed.proj.",
    "Transformer/posembed_input/pos_embedding": "pos_embed",
    "Transformer/encoder_norm/": "norm.",
    "Transformer/encoderblock_": "blocks.",
    "/LayerNorm_0/": ".norm1.",
    "/LayerNorm_2/": ".norm2.",
    "/MlpBlock_3/Dense_0/": ".mlp.fc1.",
    "/MlpBlock_3/Dense_1/": ".mlp.fc2.",
    "/MultiHeadDotProductAttention_1/out/": ".attn.proj.",
    "/MultiHeadDotProductAttention_1/": ".attn.",
    "/kernel": ".weight",
    ".kernel": ".weight",
    ".scale": ".weight",
    "/bias": ".bias",
}


def _jax_name(name: str) -> str:
    if name == "cls":
        return "cls_token"
    for old, new in _JAX_NAMES.items():
        name = name.replace(old, new)
    return name


def _jax_tensor(name: str, value: Tensor) -> Tensor:
    """JAX multiplies from the left and keeps heads H as a dimension of their own; torch does neither."""
    if name.endswith("/bias"):
        return value.flatten()
    if not name.endswith("/kernel"):
        return value
    if value.dim() == 4:  # [height, width, in, out]
        return value.permute(3, 2, 0, 1)
    if value.dim() == 3:  # query, key, value [D, H, d]; out [H, d, D]
        value = value.flatten(0, 1) if "/out/" in name else value.flatten(1)
    return value.T


def _unwrap(content: object, path: Path) -> WeightTensors:
    for _ in _CONTAINERS:  # bounded: a hostile file may nest a dictionary in itself
        if not isinstance(content, Mapping):
            break
        inner = [content[key] for key in _CONTAINERS if isinstance(content.get(key), Mapping)]
        if not inner:
            break
        content = inner[0]
    entries = dict(content) if isinstance(content, Mapping) else {}
    if entries and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in entries.items()):
        return entries
    found = f"the entries {some(map(str, entries))}" if entries else f"a {type(content).__name__}"
    raise WeightsError(
        f"{path} holds no weights that are known here: found {found}, expected a dictionary of tensors, "
        f"plain or under {', '.join(_CONTAINERS)}. Save model.state_dict() of the trained model."
    )


def _backbone_names(state: WeightTensors, path: Path) -> WeightTensors:
    while prefix := next(
        (prefix for prefix in _WRAPPERS if all(key.startswith(prefix) for key in state)), ""
    ):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    layout = next(layout for layout in _LAYOUTS if any(key.startswith(layout.marker) for key in state))
    kept = [key for key in state if not key.startswith(layout.ignored)]
    renamed = {key.removeprefix(layout.prefix): state[key] for key in kept}
    if len(renamed) < len(kept):
        raise WeightsError(
            f"{path} holds tensors twice, with and without '{layout.prefix}' before their names; "
            "save the backbone alone."
        )
    return renamed


def _refusal(path: Path, error: Exception) -> str:
    code = re.search(r"GLOBAL (\S+)", str(error))
    if code is None:
        return (
            f"{path} is damaged or not a PyTorch weights file. Copy it again, or save its state_dict alone."
        )
    return (
        f"{path} was not read: it needs the code {code[1]} to run, and weights files here are data only. "
        "If you trust its origin, save its state_dict alone (best as .safetensors) and give that file."
    )
