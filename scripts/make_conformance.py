"""Make conformance vectors: the official form of the method, computed without e2vpt's attention.

python scripts/make_conformance.py FOLDER

With them anyone can check that e2vpt computes what the paper's official code computes. The computation is
described here and written out in tests/support/oracles, with timm's own blocks, in float64:

* Before block i of a ViT, p visual prompts are put in front of the token sequence and cut off again after
  the block (deep), or they enter before block 0 and travel through all blocks (shallow).
* In attention, m key-value prompts per head are concatenated to the projected keys and values.
* In a Swin, visual prompts stand in front of every window; no position bias and no shift mask touches a
  prompt. Their attention output is the mean over the windows of the image. The pooled feature is the mean
  over the patches and the last block's prompt rows, as in the official code.
* Visual prompt i is multiplied by token_mask[i], and its channel c by segment_mask[i, c mod R]. A ViT shares
  both masks over its blocks; a Swin masks its first block only. A masked prompt stays in the sequence as a
  row of zeros.
* The loss is mean cross-entropy.

Each file holds the weights under timm's names (`backbone.<name>`), `images`, `labels`, `logits`, `loss`, the
prompts (`visual_prompts`, `key_value_prompts` or `key_prompts` and `value_prompts`: [L, ...] for a ViT,
`<name>.<i>` for block i of a Swin), `token_mask` [p], `segment_mask` [p, R], and `grad.<name>` of the loss.
Everything is random, biases and norms too, so that a wrong mask or a forgotten bias shows.
tests/test_make_conformance.py holds e2vpt to these files, to 1e-9.
"""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.backbones_for_tests import randomise
from support.oracles.swin import swin_oracle
from support.oracles.vit import vit_oracle

import e2vpt

SEGMENTS = 8
CASES = {
    "vit_mixed": {},
    "vit_mixed_pruned": {"masked": True},
    "vit_separate_kv": {"share_kv": False},
    "vit_shallow_kv": {"kv_depth": "shallow", "masked": True},
    "vit_shallow_visual": {"visual_depth": "shallow"},
    "swin_mixed": {"pool_prompts": True},
    "swin_mixed_pruned": {"pool_prompts": True, "masked": True},
}


@dataclass(frozen=True)
class Setting:
    """A random backbone, the same with random prompts, the masks, and what both are shown."""

    backbone: nn.Module
    model: nn.Module
    token_mask: Tensor
    segment_mask: Tensor
    images: Tensor
    labels: Tensor

    @property
    def is_swin(self) -> bool:
        """Which family it is."""
        return isinstance(self.backbone, SwinTransformer)


def vit() -> nn.Module:
    """A ViT of four blocks."""
    return VisionTransformer(
        img_size=32, patch_size=8, embed_dim=48, depth=4, num_heads=3, mlp_ratio=2, num_classes=7
    )


def swin() -> nn.Module:
    """A Swin of eight blocks in four stages."""
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
    )


def setting(name: str, seed: int) -> Setting:
    """The case of a name, everything in it drawn from a seed."""
    torch.manual_seed(seed)
    options = dict(CASES[name])
    masked = options.pop("masked", False)
    is_swin = name.startswith("swin")
    backbone = randomise(swin() if is_swin else vit(), seed).double().eval()
    num_visual = 5 if is_swin else 6
    config = e2vpt.PromptConfig(num_visual=num_visual, num_kv=3, init="uniform", kv_init="kaiming", **options)
    model = e2vpt.prompt(copy.deepcopy(backbone), config).double().eval()
    with torch.no_grad():
        for layer in e2vpt.prompt_layers(model):
            for prompts in {
                id(p): p for p in (layer.visual, layer.key, layer.value) if p is not None
            }.values():
                prompts.copy_(torch.randn_like(prompts))
    token, segment = torch.ones(num_visual).double(), torch.ones(num_visual, SEGMENTS).double()
    if masked:
        token[1] = 0
        segment = (torch.rand(num_visual, SEGMENTS) < 0.6).double()
    size, batch = (224, 2) if is_swin else (32, 3)
    images = torch.randn(batch, 3, size, size, dtype=torch.float64)
    labels = torch.randint(backbone.num_classes, (batch,))
    return Setting(
        backbone, model, token.requires_grad_(), segment.requires_grad_(), images=images, labels=labels
    )


def masked_prompts(case: Setting) -> list[Tensor | None]:
    """The visual prompts of every block as they enter the sequence, [p, D]."""
    drawn: list[Tensor | None] = []
    for index, layer in enumerate(e2vpt.prompt_layers(case.model)):
        if layer.visual is None or (case.is_swin and index):
            drawn.append(layer.visual)
            continue
        segment = case.segment_mask.repeat(1, layer.visual.shape[1] // SEGMENTS)
        drawn.append(layer.visual * case.token_mask[:, None] * segment)
    return drawn


def official_logits(case: Setting) -> Tensor:
    """Logits [B, C], the prompts standing in the sequence."""
    drawn = masked_prompts(case)
    if case.is_swin:
        return swin_oracle(case.backbone, case.model, case.images, drawn, pool_prompts=True)
    return vit_oracle(case.backbone, case.model, case.images, drawn)[1]


def named_prompts(case: Setting) -> dict[str, list[Tensor]]:
    """The prompts of each kind, block after block, without blocks that have none."""
    layers = e2vpt.prompt_layers(case.model)
    shared = all(layer.key is layer.value for layer in layers)
    kinds = {"visual_prompts": "visual", "key_value_prompts" if shared else "key_prompts": "key"}
    if not shared:
        kinds["value_prompts"] = "value"
    return {
        name: [prompts for layer in layers if (prompts := getattr(layer, kind)) is not None]
        for name, kind in kinds.items()
    }


def vectors(name: str, seed: int) -> dict[str, Tensor]:
    """Every tensor of a case under its name in the file."""
    case = setting(name, seed)
    logits = official_logits(case)
    loss = F.cross_entropy(logits, case.labels)
    loss.backward()
    found = {f"backbone.{key}": value for key, value in case.backbone.state_dict().items()}
    found |= {"images": case.images, "labels": case.labels, "logits": logits, "loss": loss}
    found["grad.head.weight"] = case.model.get_classifier().weight.grad
    for kind, tensors in named_prompts(case).items():
        for prefix, values in (("", tensors), ("grad.", [tensor.grad for tensor in tensors])):
            if case.is_swin:
                found |= {f"{prefix}{kind}.{index}": value for index, value in enumerate(values)}
            else:
                found[prefix + kind] = torch.stack(values)
    for kind, mask in (("token_mask", case.token_mask), ("segment_mask", case.segment_mask)):
        found |= {kind: mask, f"grad.{kind}": mask.grad}
    return found


def main(folder: Path) -> None:
    """Write a file for each case."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(CASES):
        arrays = {key: value.detach().numpy() for key, value in vectors(name, seed).items()}
        np.savez_compressed(folder / f"{name}.npz", **arrays)
        print(f"{folder / name}.npz: {len(arrays)} tensors, loss {arrays['loss']:.6f}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
