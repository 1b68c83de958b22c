"""What is measured side by side: ways to adapt one backbone, all on the same frozen tensors in memory."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from e2vpt.backbones.load import build_backbone
from e2vpt.benchmarks.speed.carried import carried
from e2vpt.config import MethodConfig, PromptConfig
from e2vpt.config.fields import check_choices, check_count
from e2vpt.methods.peft import inject
from e2vpt.prompting.install import prompt
from e2vpt.prompting.parts import classifier, prompt_layers
from e2vpt.training.frozen import HeldFrozen
from e2vpt.training.prefix import first_tokens

SpeedMethod = Literal[
    "plain", "linear", "full", "bias", "lora", "carried", "carried-fused", "e2vpt", "e2vpt-bias", "late"
]
PROMPTED: tuple[SpeedMethod, ...] = ("carried", "carried-fused", "e2vpt", "e2vpt-bias", "late")
_LORA_RANK = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """What all contestants of a comparison share.

    Attributes:
        backbone: a timm name; its weights are random, as time does not depend on them.
        precision: "fp32", or "bf16": autocast over frozen weights held in bf16 (tuned ones stay in fp32).
        batch_size, image_size: images at a time, and their side in pixels (None: the backbone's own).
        depth: blocks, where not the backbone's own number (ViT only).
        device: "cpu" or "cuda".
    """

    backbone: str
    precision: Literal["fp32", "bf16"] = "fp32"
    batch_size: int = 8
    image_size: int | None = None
    depth: int | None = None
    device: str = "cpu"
    num_classes: int = 100

    def __post_init__(self) -> None:
        check_choices(self)
        check_count("batch_size", self.batch_size, 1)

    def make_backbone(self) -> nn.Module:
        """The frozen backbone, its head tunable."""
        model = build_backbone(
            self.backbone, num_classes=self.num_classes, image_size=self.image_size, depth=self.depth
        )
        model.to(self.device).requires_grad_(False)
        classifier(model).requires_grad_(True)
        return model

    def make_data(self, backbone: nn.Module) -> tuple[Tensor, Tensor]:
        """Random images [B, 3, h, w] and labels [B]."""
        sides: tuple[int, int] = backbone.patch_embed.img_size  # type: ignore[union-attr, assignment]
        images = torch.randn(self.batch_size, 3, *sides, device=self.device)
        return images, torch.randint(self.num_classes, (self.batch_size,), device=self.device)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Contestant:
    """A model, and the two things that are timed: `infer` and `step`.

    "e2vpt-bias" is ours as `e2vpt train` has it, every bias tuned beside the prompts; "late" is ours with
    prompts from the middle block on (ViT): another model, its step given stored tokens.

    Attributes:
        num_visual, num_kv: prompts of each block; 0 where it has none.
        num_tuned: parameters that are trained, without the head.
        data: images, or tokens in their place, and labels; what a step is given.
        images: what inference is given.
    """

    method: SpeedMethod
    num_visual: int
    num_kv: int
    num_tuned: int
    model: nn.Module
    case: Case
    images: Tensor
    data: tuple[Tensor, Tensor]
    optimizer: torch.optim.Optimizer

    def logits(self, x: Tensor) -> Tensor:
        """Logits [B, C] of images or tokens."""
        enabled = self.case.precision == "bf16"
        with torch.autocast(self.case.device, torch.bfloat16, enabled=enabled):
            result: Tensor = self.model(x)
        return result

    def loss(self) -> Tensor:
        """Mean cross-entropy, in training mode."""
        return F.cross_entropy(self.logits(self.data[0]).float(), self.data[1])

    def infer(self) -> None:
        """One forward pass without gradients."""
        with torch.no_grad():
            self.logits(self.images)

    def step(self) -> None:
        """Forward, backward and an AdamW step."""
        self.loss().backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def make_contestants(
    case: Case, methods: Sequence[SpeedMethod], num_visual: Sequence[int], num_kv: int
) -> list[Contestant]:
    """The contestants of a case, the plain backbone first; prompted ones once for each number of prompts.

    Raises:
        MissingExtra: LoRA without PEFT.
    """
    torch.manual_seed(0)
    backbone = case.make_backbone()
    data = case.make_data(backbone)
    full = copy.deepcopy(backbone).requires_grad_(True) if "full" in methods else None

    def contestant(
        method: SpeedMethod, model: nn.Module, count: int = 0, given: Tensor = data[0]
    ) -> Contestant:
        tuned = [p for p in model.parameters() if p.requires_grad]
        return Contestant(
            method=method,
            num_visual=count,
            num_kv=num_kv if method in PROMPTED else 0,
            num_tuned=sum(p.numel() for p in tuned) - num_head,
            model=model,
            case=case,
            images=data[0],
            data=(given, data[1]),
            optimizer=torch.optim.AdamW(tuned, lr=1e-4),
        )

    num_head = sum(p.numel() for p in classifier(backbone).parameters())
    made = [contestant("plain", backbone)]
    if "linear" in methods:
        made.append(contestant("linear", _sharing(backbone)))
    if full is not None:
        made.append(contestant("full", full))
    if "bias" in methods:
        made.append(contestant("bias", _tuning_biases(_sharing(backbone, biases=False))))
    if "lora" in methods:
        made.append(contestant("lora", _lora(_sharing(backbone))))
    for count in num_visual:
        ours = prompt(_sharing(backbone), PromptConfig(num_visual=count, num_kv=num_kv))
        for method in ("carried", "carried-fused"):
            if method in methods:
                official = _carried(_sharing(backbone), ours, fused=method == "carried-fused")
                made.append(contestant(method, official, count))
        if "e2vpt" in methods:
            made.append(contestant("e2vpt", ours, count))
        if "e2vpt-bias" in methods:
            both = prompt(_sharing(backbone, biases=False), PromptConfig(num_visual=count, num_kv=num_kv))
            made.append(contestant("e2vpt-bias", _tuning_biases(both), count))
        if "late" in methods:
            middle = len(prompt_layers(ours)) // 2
            config = PromptConfig(num_visual=count, num_kv=num_kv, first_block=middle)
            late = prompt(_sharing(backbone), config)
            made.append(contestant("late", late, count, first_tokens(late, data[0])))
    if case.precision == "bf16":
        HeldFrozen(backbone, torch.bfloat16).__enter__()  # for good; the copies' tensors are the same
    return made


def _sharing(backbone: nn.Module, *, biases: bool = True) -> nn.Module:
    """A copy on the same frozen tensors, with a head of its own, and its own biases where asked for."""
    tensors = itertools.chain(backbone.named_parameters(), backbone.named_buffers())
    shared = (t for name, t in tensors if not t.requires_grad and (biases or not _is_bias(name)))
    return copy.deepcopy(backbone, {id(t): t for t in shared})


def _tuning_biases(model: nn.Module) -> nn.Module:
    for name, parameter in model.named_parameters():
        if _is_bias(name):
            parameter.requires_grad_(True)
    return model


def _is_bias(name: str) -> bool:
    return name.rpartition(".")[2] == "bias"


def _carried(backbone: nn.Module, ours: nn.Module, *, fused: bool) -> nn.Module:
    """The carried form with prompts of its own, equal to those of `ours`."""
    return carried(backbone, [copy.deepcopy(layer) for layer in prompt_layers(ours)], fused=fused)


def _lora(backbone: nn.Module) -> nn.Module:
    """LoRA of rank 8 on every fused qkv projection, by PEFT."""
    inject(backbone, "lora", MethodConfig(lora_rank=_LORA_RANK))
    classifier(backbone).requires_grad_(True)
    return backbone
