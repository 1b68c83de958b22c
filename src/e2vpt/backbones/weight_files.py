"""Weight files, read without running code in them, by the names of their backbone alone."""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from e2vpt.backbones.checkpoint_layouts import WeightTensors, backbone_names, tensors_in
from e2vpt.backbones.jax_files import check_array, read_npz
from e2vpt.errors import WeightsError, some
from e2vpt.files.paths import listed, look_at

_MOST_PACKED = 10
"""Random numbers hardly pack at all."""


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
    state = backbone_names(tensors_in(content, path), path)
    odd = {name: kind for name, tensor in state.items() if (kind := _oddness(tensor))}
    if odd:
        listed = some(f"{name} ({kind})" for name, kind in odd.items())
        raise WeightsError(f"{path} holds tensors that are no plain arrays of numbers: {listed}.")
    return state


def check_weights_file(path: Path) -> None:
    """See that there is a file of a known kind, without reading it.

    Raises:
        WeightsError: there is none, or its name has an unknown ending.
    """
    _reader(path)


def first_line(error: Exception) -> str:
    """What an exception of a library says, short enough for a message of ours.

    Not torch's words on `weights_only`: they recommend to run what a file holds.
    """
    text = str(error).strip().splitlines()
    return f"{text[0].rstrip('.')}." if text and "weights_only" not in str(error) else "no message."


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
                check_array(archive, entry)


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


_READERS: dict[str, Callable[[Path], object]] = {
    ".safetensors": _read_safetensors,
    ".npz": read_npz,
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".bin": _read_torch,
    ".tar": _read_torch,  # MoCo's .pth.tar is a plain torch file
}


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
