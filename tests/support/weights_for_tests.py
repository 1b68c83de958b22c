"""Small models, and their weights in the layouts that files have them in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from safetensors.torch import load_file, save_file
from support.backbones_for_tests import randomise
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from e2vpt.backbones.demo import DEMO_WEIGHTS

State = dict[str, Tensor]


def vit(num_classes: int = 7, **options: Any) -> nn.Module:
    return randomise(timm.create_model("test_vit", num_classes=num_classes, **options))


def swin(image_size: int = 32) -> nn.Module:
    return randomise(
        SwinTransformer(
            img_size=image_size, patch_size=2, embed_dim=16, depths=(2, 2), num_heads=(2, 4), window_size=4
        )
    )


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: value for name, value in state.items()}


def headless(state: State) -> State:
    return {name: value for name, value in state.items() if not name.startswith("head.")}


def decoder(_: State) -> State:
    return {"mask_token": torch.ones(1, 1, 8), "decoder_embed.weight": torch.ones(8, 64)}


def moco_v3(state: State) -> dict[str, Any]:
    """A pre-training file: two encoders under MLP heads, and a predictor."""
    mlp = {
        "head.0.weight": torch.ones(4, 4),
        "head.1.running_mean": torch.ones(4),
        "head.6.weight": torch.ones(2),
    }
    encoder = {**headless(state), **mlp}
    other = {name: value + 1 for name, value in encoder.items()}
    tensors = {
        **prefixed(encoder, "module.base_encoder."),
        **prefixed(other, "module.momentum_encoder."),
        "module.predictor.0.weight": torch.ones(3),
    }
    optimizer = {"state": {0: {"mu": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}
    return {"epoch": 300, "arch": "vit_base", "state_dict": tensors, "optimizer": optimizer, "scaler": {}}


def to_jax(state: State, num_heads: int) -> dict[str, np.ndarray[Any, Any]]:
    """A timm ViT's weights as the JAX release names and shapes them."""
    out = {
        "cls": state["cls_token"],
        "embedding/kernel": state["patch_embed.proj.weight"].permute(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
        "head/kernel": state["head.weight"].T,
        "head/bias": state["head.bias"],
        "pre_logits/kernel": torch.ones(3, 3),
        "pre_logits/bias": torch.ones(3),
    }
    width = state["norm.weight"].numel()
    for index in range(1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))):
        old, new = f"blocks.{index}", f"Transformer/encoderblock_{index}"
        for number, norm in ((0, "norm1"), (2, "norm2")):
            out[f"{new}/LayerNorm_{number}/scale"] = state[f"{old}.{norm}.weight"]
            out[f"{new}/LayerNorm_{number}/bias"] = state[f"{old}.{norm}.bias"]
        for number in (0, 1):
            out[f"{new}/MlpBlock_3/Dense_{number}/kernel"] = state[f"{old}.mlp.fc{number + 1}.weight"].T
            out[f"{new}/MlpBlock_3/Dense_{number}/bias"] = state[f"{old}.mlp.fc{number + 1}.bias"]
        attention = f"{new}/MultiHeadDotProductAttention_1"
        for row, part in enumerate(("query", "key", "value")):
            kernel = state[f"{old}.attn.qkv.weight"].chunk(3)[row].T
            out[f"{attention}/{part}/kernel"] = kernel.reshape(width, num_heads, -1)
            out[f"{attention}/{part}/bias"] = state[f"{old}.attn.qkv.bias"].chunk(3)[row].view(num_heads, -1)
        out[f"{attention}/out/kernel"] = state[f"{old}.attn.proj.weight"].T.reshape(num_heads, -1, width)
        out[f"{attention}/out/bias"] = state[f"{old}.attn.proj.bias"]
    return {name: value.numpy() for name, value in out.items()}


def without(name: str) -> Callable[[State], State]:
    return lambda state: {key: value for key, value in state.items() if key != name}


def other_demo_weights(path: Path) -> Path:
    """A file of weights of the demo backbone that are not its own."""
    tensors = load_file(DEMO_WEIGHTS)
    name = next(name for name in tensors if name.endswith("qkv.weight"))
    save_file(tensors | {name: tensors[name] + 1}, path)
    return path
