"""Whole adapter files of many methods on small backbones, taken apart: what mutations start from."""

from __future__ import annotations

import copy
import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import e2vpt

CLASSES = ("cat", "dog", "owl", "ant", "emu")
PREPROCESSING = e2vpt.Preprocessing(
    image_size=(32, 32), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), crop_pct=0.9
)
_METHODS: tuple[tuple[str, str, dict[str, Any], str], ...] = (
    ("vit", "e2vpt", {"num_visual": 4, "num_kv": 3}, "none"),
    ("vit", "e2vpt", {"num_visual": (4, 0, 6), "num_kv": (0, 2, 3), "share_kv": False}, "masks"),
    ("vit", "e2vpt", {"num_visual": 5, "num_kv": 2}, "masks, bias"),
    ("vit", "e2vpt", {"num_visual": 4, "num_kv": 3, "first_block": 1}, "fp16"),
    ("vit", "e2vpt", {"num_visual": 8, "num_kv": 2}, "sparse"),
    ("vit", "e2vpt", {"num_visual": 3, "kv_depth": "shallow", "dropout": 0.1}, "norm"),
    ("dynamic", "e2vpt", {"num_visual": 4, "num_kv": 3}, "masks"),
    ("vit", "vpt-shallow", {"num_visual": 6}, "masks"),
    ("vit", "vpt-deep", {"num_visual": 6}, "none"),
    ("vit", "kv", {"num_kv": 4}, "none"),
    *(("vit", method, {}, "none") for method in ("linear", "bias", "lora", "mlp", "adapter", "partial")),
    *(("vit", method, {}, "none") for method in ("layernorm", "sidetune", "full", "ia3", "dora")),
    ("swin", "e2vpt", {"num_visual": 4, "num_kv": 3}, "masks"),
    ("swin", "e2vpt", {"num_visual": 4, "num_kv": 3, "pool_prompts": True}, "bias"),
    ("swin", "vpt-shallow", {"num_visual": 4, "pool_prompts": True}, "masks"),
    ("swin", "linear", {}, "none"),
    ("swin", "lora", {}, "fp16"),
    ("swin", "bias", {}, "none"),
    ("named", "e2vpt", {"num_visual": 4, "num_kv": 3}, "masks"),
    ("named", "linear", {}, "none"),
)


@dataclass(frozen=True, kw_only=True)
class Base:
    """A whole adapter file, taken apart, and the plain backbone it was made for.

    Attributes:
        backbone: the model; None where the file's name of it is to be followed.
        plain: the same backbone, whatever `backbone` is.
    """

    name: str
    backbone: nn.Module | None
    plain: nn.Module
    header: dict[str, Any]
    tensors: dict[str, Tensor]


def make_bases(folder: Path) -> list[Base]:
    """One base for each of the methods above."""
    torch.manual_seed(4)
    plain = {"vit": _vit(), "dynamic": _vit(dynamic_img_size=True), "swin": small_swin()}
    plain["named"] = e2vpt.load_backbone("demo", num_classes=5)
    return [_base(folder / f"base{i}", plain, *made) for i, made in enumerate(_METHODS)]


def _base(
    path: Path, plain: Mapping[str, nn.Module], family: str, method: str, prompts: Any, ways: str
) -> Base:
    options = e2vpt.MethodConfig(
        beside="bias" if "bias" in ways else "norm" if "norm" in ways else "none",
        lora_rank=2,
        adapter_width=4,
        mlp_layers=2,
    )
    model = e2vpt.adapt(copy.deepcopy(plain[family]), method, e2vpt.PromptConfig(**prompts), options)
    _randomise([p for p in model.parameters() if p.requires_grad])
    for layer in e2vpt.prompting.parts.find_prompts(model):
        if layer.keep is not None and ("masks" in ways or "sparse" in ways):
            kept = 0.1 if "sparse" in ways else 0.6
            segments = torch.rand(layer.keep.shape[0], 4) < kept
            segments[0, 0] = True
            layer.keep.copy_(segments.repeat_interleave(layer.keep.shape[1] // 4, 1))
    e2vpt.save_adapter(
        model,
        path,
        classes=CLASSES,
        preprocessing=PREPROCESSING,
        metrics={"val_accuracy": 0.75, "val_loss": 0.5, "epoch": 3},
        precision="fp16" if "fp16" in ways else "fp32",
    )
    header, tensors = opened(path)
    return Base(
        name=f"{family} {method} {ways}",
        backbone=None if family == "named" else plain[family],
        plain=plain[family],
        header=header,
        tensors=tensors,
    )


def opened(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors, read without e2vpt; of two values under one name the later one counts."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    outer = json.loads(content[8 : 8 + length])
    _, _, text = outer["__metadata__"]["e2vpt"].partition(" ")
    return json.loads(text), safetensors.torch.load(content)


def sealed(text: str, tensors: Mapping[str, Tensor], more: Mapping[str, str] | None = None) -> bytes:
    """The bytes of an adapter file of this JSON text and these tensors, with the checksum that fits."""
    digest = hashlib.sha256(text.encode(errors="surrogatepass"))
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    plain = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    return safetensors.torch.save(plain, {"e2vpt": f"{digest.hexdigest()} {text}", **(more or {})})


def _randomise(parameters: list[nn.Parameter]) -> None:
    with torch.no_grad():
        for parameter in parameters:
            scale = 0.3 if parameter.dim() < 2 else 0.7 / max(parameter[0].numel(), 1) ** 0.5
            parameter.add_(scale * torch.randn(parameter.shape))


def _vit(**more: Any) -> nn.Module:
    options: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}
    model = VisionTransformer(**options, mlp_ratio=2.0, num_classes=5, **more)
    return _ready(model, "vit_test", more)


def small_swin() -> nn.Module:
    options: dict[str, Any] = {"img_size": 32, "patch_size": 4, "embed_dim": 16, "depths": (2, 2)}
    model = SwinTransformer(**options, num_heads=(2, 4), window_size=2, mlp_ratio=2.0, num_classes=5)
    return _ready(model, "swin_test", {})


def _ready(model: nn.Module, name: str, more: Mapping[str, Any]) -> nn.Module:
    _randomise(list(model.parameters()))
    cfg = {"architecture": name, "input_size": (3, 32, 32), "num_classes": 5, "fixed_input_size": not more}
    model.pretrained_cfg = model.default_cfg = cfg  # type: ignore[assignment]
    return model.eval()
