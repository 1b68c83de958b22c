"""The backbone under one linear head for each task, trained on drawings."""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from scripts.demo_backbone.drawing import SIDE, TASKS, draw_set

ARCHITECTURE: dict[str, Any] = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 128,
    "depth": 6,
    "num_heads": 4,
    "mlp_ratio": 4.0,
    "num_classes": 0,
}
MEAN = STD = 0.5


def load_drawings(work: Path, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Drawings (count, 4, side, side) as uint8 and labels, made once and kept under `work`."""
    path = work / f"drawings-{seed}-{count}.npz"
    if not path.exists():
        start = time.monotonic()
        images, labels = draw_set(count, seed)
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, images=images, labels=labels)
        partial.replace(path)
        print(f"drew {count} images in {time.monotonic() - start:.0f} s", flush=True)
    with np.load(path) as stored:
        drawings, named = torch.from_numpy(stored["images"]), torch.from_numpy(stored["labels"])
    return drawings.permute(0, 3, 1, 2).contiguous(), named


def prepare(drawings: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Normalised images and each patch's coverage; with a generator, augmented."""
    mixed = drawings.float() / 255
    if generator is not None:
        dy, dx = torch.randint(0, 5, (2,), generator=generator).tolist()
        mixed = F.pad(mixed, (2, 2, 2, 2), mode="replicate")[:, :, dy : dy + SIDE, dx : dx + SIDE]
    images, side = (mixed[:, :3] - MEAN) / STD, ARCHITECTURE["patch_size"]
    cover = F.unfold(mixed[:, 3:], side, stride=side).transpose(1, 2)
    if generator is not None:
        gain = torch.empty(len(images), 1, 1, 1).uniform_(0.7, 1.2, generator=generator)
        images = (images[:, torch.randperm(3, generator=generator)] * gain).clamp(-1, 1)
    return images, cover


class MultiTask(nn.Module):
    """The backbone under one linear head per task."""

    def __init__(self) -> None:
        super().__init__()
        width = ARCHITECTURE["embed_dim"]
        self.backbone = VisionTransformer(**ARCHITECTURE)
        self.heads = nn.ModuleList(nn.Linear(width, classes) for classes in TASKS.values())
        self.cover = nn.Linear(width, ARCHITECTURE["patch_size"] ** 2)

    def forward(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        tokens = self.backbone.forward_features(images)
        return [head(tokens[:, 0]) for head in self.heads], self.cover(tokens[:, 1:])


@torch.no_grad()
def evaluate(model: MultiTask, drawings: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy per task, and the share of pixels whose coverage is told right."""
    model.eval()
    right = torch.zeros(len(TASKS) + 1)
    for part, y in zip(drawings.split(500), labels.split(500), strict=True):
        images, cover = prepare(part)
        outputs, covered = model(images)
        hits = [(output.argmax(1) == y[:, task]).sum() for task, output in enumerate(outputs)]
        right += torch.stack([*hits, ((covered > 0) == (cover > 0.5)).float().mean() * len(y)])
    return {name: round(float(n) / len(labels), 4) for name, n in zip((*TASKS, "cover"), right, strict=True)}


def train(args: argparse.Namespace) -> MultiTask:
    args.work.mkdir(parents=True, exist_ok=True)
    images, labels = load_drawings(args.work, args.images, args.seed)
    val_images, val_labels = load_drawings(args.work, args.val_images, args.seed + 1)
    torch.manual_seed(args.seed)
    model = MultiTask()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    per_epoch = len(images) // args.batch_size
    total, warmup = args.epochs * per_epoch, max(1, args.epochs * per_epoch // 25)
    checkpoint, first, spent = args.work / "checkpoint.pt", 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state["plan"] != plan(args):
            raise SystemExit(f"{checkpoint} has other settings; remove it or give another --work.")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, spent = state["epoch"], state["spent"]
        print(f"resumed after epoch {first}", flush=True)
    for epoch in range(first, args.epochs):
        model.train()
        generator = torch.Generator().manual_seed(1_000_003 * args.seed + epoch)
        order = torch.randperm(len(images), generator=generator)
        start, running = time.monotonic(), 0.0
        for batch in range(per_epoch):
            step = epoch * per_epoch + batch
            share = min(1.0, (step + 1) / warmup) * (0.5 + 0.5 * math.cos(math.pi * step / total))
            for group in optimizer.param_groups:
                group["lr"] = args.lr * share
            chosen = order[batch * args.batch_size : (batch + 1) * args.batch_size]
            x, cover = prepare(images[chosen], generator)
            outputs, covered = model(x)
            losses = [F.cross_entropy(out, labels[chosen, task]) for task, out in enumerate(outputs)]
            loss = losses[0] + 0.3 * torch.stack(losses[1:]).sum()
            loss = loss + 2 * F.binary_cross_entropy_with_logits(covered, cover)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            running += loss.item()
            if batch % 250 == 249:
                pace = (time.monotonic() - start) / (batch + 1)
                left = pace * (total - step - 1) / 60
                mean, where = running / (batch + 1), f"{epoch + 1} step {batch + 1}/{per_epoch}"
                print(f"epoch {where} loss {mean:.3f} left {left:.1f} min", flush=True)
        spent += time.monotonic() - start
        scores = evaluate(model, val_images, val_labels)
        print(f"epoch {epoch + 1}/{args.epochs} {spent:.0f} s {scores}", flush=True)
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch + 1}
        partial = checkpoint.with_suffix(".partial")
        torch.save(state | {"plan": plan(args), "spent": spent}, partial)
        partial.replace(checkpoint)
    return model


def architecture_json() -> str:
    return json.dumps(ARCHITECTURE, sort_keys=True)


def plan(args: argparse.Namespace) -> str:
    """What a checkpoint must agree on to be resumed."""
    free = ("work", "output", "threads")
    settings = {name: value for name, value in vars(args).items() if name not in free}
    return json.dumps([settings, ARCHITECTURE, TASKS], sort_keys=True)
