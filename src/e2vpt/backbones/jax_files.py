"""The JAX release of ViT: .npz files, by timm's names."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from e2vpt.errors import visible

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


def check_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Refuse an array that says it is larger than its bytes: numpy would take memory by its word."""
    with archive.open(entry) as file:
        if np.lib.format.read_magic(file) == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        if math.prod(shape) * dtype.itemsize > entry.file_size:
            raise ValueError(f"{visible(entry.filename)} says {list(shape)} and has fewer bytes")


def read_npz(path: Path) -> dict[str, Tensor]:
    """A release file of the JAX ViT, by timm's names; names that are not of that release stay as they are."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:  # numpy alone leaks a bad file
        state = {_jax_name(name): _jax_tensor(name, torch.from_numpy(arrays[name])) for name in arrays}
    for name in [name for name in state if ".attn.query." in name]:
        parts = [name.replace(".query.", part) for part in (".query.", ".key.", ".value.")]
        if all(part in state for part in parts):
            state[name.replace(".query.", ".qkv.")] = torch.cat([state.pop(part) for part in parts])
    return state


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
