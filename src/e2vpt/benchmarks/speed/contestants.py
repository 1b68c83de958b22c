"""What is measured side by side: ways to adapt one backbone, all on the same frozen tensors in memory."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from e2vpt.backbones.families import is_vit
from e2vpt.backbones.load import build_backbone
from e2vpt.benchmarks.speed.carried import CarriedForm
from e2vpt.benchmarks.speed.names import PROMPTED, SpeedMethod
from e2vpt.config import MethodConfig, PromptConfig
from e2vpt.config.fields import check_choices, check_count
from e2vpt.errors import ConfigError
from e2vpt.methods.adapt import adapt
from e2vpt.prompting.install import prompt
from e2vpt.prompting.parts import classifier, prompt_layers
from e2vpt.prompting.sites import find_sites
from e2vpt.training.frozen import HeldFrozen
from e2vpt.training.prefix import first_tokens

_BESIDE: dict[SpeedMethod, Literal["bias", "scale"]] = {"e2vpt-bias": "bias", "e2vpt-scale": "scale"}


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
        for name, least in (("batch_size", 1), ("image_size", 8), ("depth", 1)):
            value = getattr(self, name)
            if value is not None:
                check_count(name, value, least)

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

    "e2vpt-bias" tunes every bias beside the prompts, "e2vpt-scale" output scales too, as `e2vpt train` does
    by default; "late" is ours with prompts from the middle block on (ViT): another model, its step given
    stored tokens.

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


def contestant_names(
    methods: Sequence[SpeedMethod], num_visual: Sequence[int]
) -> list[tuple[SpeedMethod, int]]:
    """Methods with their numbers of visual prompts, the plain forward pass first."""
    plain = [(method, 0) for method in ("plain", *methods) if method not in PROMPTED]
    prompted = [(method, count) for count in num_visual for method in methods if method in PROMPTED]
    return [*plain, *prompted]


def make_contestants(
    case: Case, methods: Sequence[SpeedMethod], num_visual: Sequence[int], num_kv: int
) -> list[Contestant]:
    """The contestants of a case, the plain backbone first; prompted ones once for each number of prompts.

    Raises:
        MissingExtra: LoRA without PEFT.
    """
    torch.manual_seed(0)
    backbone = case.make_backbone()
    images, labels = case.make_data(backbone)
    num_head = sum(p.numel() for p in classifier(backbone).parameters())
    made = []
    for method, count in contestant_names(methods, num_visual):
        model = _adapted(backbone, method, PromptConfig(num_visual=count, num_kv=num_kv))
        tuned = [p for p in model.parameters() if p.requires_grad]
        made.append(
            Contestant(
                method=method,
                num_visual=count,
                num_kv=num_kv if method in PROMPTED else 0,
                num_tuned=sum(p.numel() for p in tuned) - num_head,
                model=model,
                case=case,
                images=images,
                data=(first_tokens(model, images) if method == "late" else images, labels),
                optimizer=torch.optim.AdamW(tuned, lr=1e-4),
            )
        )
    if case.precision == "bf16":
        HeldFrozen(backbone, torch.bfloat16).__enter__()  # for good; the copies' tensors are the same
    return made


def _adapted(backbone: nn.Module, method: SpeedMethod, prompts: PromptConfig) -> nn.Module:
    """The backbone as a method adapts it, on the same frozen tensors."""
    if method == "plain":
        return backbone
    model = _sharing(backbone, method)
    if method == "linear":
        return model
    torch.manual_seed(0)  # Prompts of every form begin alike.
    if method in ("carried", "carried-fused"):
        layers = prompt_layers(prompt(_sharing(backbone, method), prompts))
        return CarriedForm(model, layers, fused=method == "carried-fused")
    if method == "late":
        if not is_vit(model):
            raise ConfigError("late: only of a ViT are tokens kept that enter the first prompted block.")
        prompts = dataclasses.replace(prompts, first_block=len(find_sites(model)) // 2)
    options = MethodConfig(beside=_BESIDE.get(method, "none"))
    name = "e2vpt" if method in PROMPTED else method
    return adapt(model, name, prompts, options, weights="not asked for")


def _sharing(backbone: nn.Module, method: SpeedMethod) -> nn.Module:
    """A copy that has its own head, and its own of what the method tunes; the rest is the same in memory."""

    def is_own(name: str) -> bool:
        return method == "full" or (method in ("bias", *_BESIDE) and name.endswith("bias"))

    tensors = itertools.chain(backbone.named_parameters(), backbone.named_buffers())
    shared = (t for name, t in tensors if not t.requires_grad and not is_own(name))
    return copy.deepcopy(backbone, {id(t): t for t in shared})
