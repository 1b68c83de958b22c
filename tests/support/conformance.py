"""The official implementation's tensors, and our model set to them (../shared/conformance/README.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from support.backbones_for_tests import relative
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

import e2vpt
from e2vpt.prompting.prompts import BlockPrompts

NAMES = [
    "vit_mixed",
    "vit_mixed_pruned",
    "vit_separate_kv",
    "vit_shallow_kv",
    "vit_shallow_visual",
    "swin_mixed",
    "swin_mixed_pruned",
]


class Case:
    """One file: the official tensors, and our model set to its weights, prompts and masks."""

    def __init__(self, path: Path) -> None:
        self.expected = {name: torch.from_numpy(array) for name, array in np.load(path).items()}
        self.is_swin = path.stem.startswith("swin")
        self.shares_kv = "key_prompts" not in self.expected
        self.segments = self.expected["segment_mask"].shape[1]
        visual = self.per_block("visual_prompts")
        self.model = self._model(len(visual), len(self.per_block(self.key_name)))
        self.layers = e2vpt.prompt_layers(self.model)
        with torch.no_grad():
            self._fill(visual)

    @property
    def key_name(self) -> str:
        return "key_value_prompts" if self.shares_kv else "key_prompts"

    def per_block(self, name: str) -> list[Tensor]:
        """A tensor of every block that has it: one array (ViT) or one per block (Swin)."""
        if name in self.expected:
            return list(self.expected[name])
        return [self.expected[f"{name}.{i}"] for i in range(8)]

    def masked_layers(self) -> list[BlockPrompts]:
        """The blocks the masks cover: the first of a Swin, all of a ViT that have visual prompts."""
        return [layer for layer in self.layers[: 1 if self.is_swin else None] if layer.visual is not None]

    def _model(self, num_visual_blocks: int, num_kv_blocks: int) -> nn.Module:
        backbone = _swin() if self.is_swin else _vit()
        weights = {k.removeprefix("backbone."): v for k, v in self.expected.items() if k.startswith("backb")}
        backbone.load_state_dict(weights, strict=True)
        config = e2vpt.PromptConfig(
            num_visual=self.per_block("visual_prompts")[0].shape[0],
            num_kv=self.per_block(self.key_name)[0].shape[1],
            share_kv=self.shares_kv,
            visual_depth="deep" if num_visual_blocks > 1 else "shallow",
            kv_depth="deep" if num_kv_blocks > 1 else "shallow",
            pool_prompts=self.is_swin,
        )
        return e2vpt.prompt(backbone, config).double()

    def _fill(self, visual: list[Tensor]) -> None:
        for layer, tensor in zip(self.layers, visual, strict=False):
            layer.visual.copy_(tensor)
        for layer, tensor in zip(self.layers, self.per_block(self.key_name), strict=False):
            layer.key.copy_(tensor)
        if not self.shares_kv:
            for layer, tensor in zip(self.layers, self.per_block("value_prompts"), strict=False):
                layer.value.copy_(tensor)
        token, segment = self.expected["token_mask"], self.expected["segment_mask"]
        for layer in self.masked_layers():
            tiles = layer.visual.shape[1] // self.segments
            layer.keep.copy_(token[:, None] * segment.repeat(1, tiles))

    def gradients(self) -> dict[str, Tensor]:
        """Our gradients under the names of the file."""
        found: dict[str, Tensor] = {"head.weight": self.model.get_classifier().weight.grad}
        by_name = {"visual_prompts": "visual", self.key_name: "key"}
        if not self.shares_kv:
            by_name["value_prompts"] = "value"
        for name, attribute in by_name.items():
            grads = [p.grad for layer in self.layers if (p := getattr(layer, attribute)) is not None]
            if self.is_swin:
                found |= {f"{name}.{i}": grad for i, grad in enumerate(grads)}
            else:
                found[name] = torch.stack(grads)
        # keep = token_mask[:, None] * tiled segment_mask, in every masked block: the chain rule, written out.
        token, segment = self.expected["token_mask"], self.expected["segment_mask"]
        found["token_mask"], found["segment_mask"] = torch.zeros_like(token), torch.zeros_like(segment)
        for layer in self.masked_layers():
            per_tile = layer.keep.grad.unflatten(1, (-1, self.segments)).sum(1)
            found["token_mask"] += (per_tile * segment).sum(1)
            found["segment_mask"] += per_tile * token[:, None]
        return found

    def differences(self) -> dict[str, float]:
        """How far our logits, loss and every gradient of the file are from the file's, relative."""
        self.model.zero_grad()
        for layer in self.masked_layers():
            layer.keep.requires_grad_(True).grad = None
        logits = self.model(self.expected["images"])
        loss = F.cross_entropy(logits, self.expected["labels"])
        loss.backward()
        found = {f"grad.{name}": gradient for name, gradient in self.gradients().items()}
        given = {name: value for name, value in self.expected.items() if name.startswith("grad.")}
        assert given and set(given) <= set(found)
        found |= {"logits": logits, "loss": loss}
        given |= {"logits": self.expected["logits"], "loss": self.expected["loss"]}
        return {name: relative(found[name], value) for name, value in given.items()}


def _vit() -> VisionTransformer:
    return VisionTransformer(
        img_size=32, patch_size=8, embed_dim=48, depth=4, num_heads=3, mlp_ratio=2, num_classes=7
    ).double()


def _swin() -> SwinTransformer:
    return SwinTransformer(
        img_size=224,
        patch_size=4,
        embed_dim=16,
        depths=(2, 2, 2, 2),
        num_heads=(1, 2, 4, 8),
        window_size=7,
        mlp_ratio=2.0,
        num_classes=5,
        drop_path_rate=0.0,
    ).double()
