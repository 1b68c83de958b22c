"""A backbone's weights in one word: what tells whether an adapter fits them."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from e2vpt.backbones.families import plain_name
from e2vpt.backbones.weights import head_names

# Resampled to the image size, and interpolation differs in the last bits between machines.
_SIZE_DEPENDENT = ("pos_embed", "relative_position_bias_table")


@torch.no_grad()
def fingerprint(model: nn.Module) -> str:
    """SHA-256, in hex, of a backbone's weights as float32.

    The same with prompts, under another head, at another image size and in a copy; another after any change
    of any other weight.
    """
    head, digest = {plain_name(name) for name in head_names(model)}, hashlib.sha256()
    for name, tensor in sorted((plain_name(name), tensor) for name, tensor in model.state_dict().items()):
        parts = name.split(".")
        if name in head or "prompts" in parts or parts[-1] in _SIZE_DEPENDENT:
            continue
        digest.update(f"{name}{list(tensor.shape)}".encode())
        digest.update(tensor.cpu().float().contiguous().numpy().data)
    return digest.hexdigest()
