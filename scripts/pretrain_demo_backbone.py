"""Train the small backbone that `e2vpt demo` adapts, on images that this script draws itself.

The images are procedural: geometric shapes and fixed random scribbles over plain or textured grounds. No
font is loaded and no digit is drawn, so handwritten digits are unseen (though a ring is like a nought).
Linear heads learn five labels per image from the class token, and which pixels the shape covers from the
patch tokens. The heads are thrown away; only the backbone is kept.

    OMP_NUM_THREADS=1 python scripts/pretrain_demo_backbone.py

An interrupted run goes on from its last finished epoch (see --work).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFilter
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

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
WORK = Path("/tmp/e2vpt-pretrain")
OUTPUT = Path(__file__).resolve().parents[1] / "src" / "e2vpt" / "backbones" / "demo_backbone.safetensors"
SIDE, CANVAS = 32, 64
Points = npt.NDArray[np.float64]
Stroke = tuple[Points, bool]  # (points in [-1, 1] x [-1, 1], whether closed)


def _polar(radius: Callable[[Points], Points | float], turns: float = 1.0, steps: int = 48) -> Points:
    angle = np.linspace(0, 2 * np.pi * turns, steps)
    reach: Points = np.broadcast_to(radius(angle), angle.shape)[:, None]
    return np.stack((np.sin(angle), -np.cos(angle)), 1) * reach


def _polygon(corners: int, inner: float | None = None) -> Points:
    """A regular polygon; with `inner`, the star whose inner corners lie at that radius."""
    count = corners if inner is None else 2 * corners
    angle = 2 * np.pi * np.arange(count) / count
    radius = np.where(np.arange(count) % 2 == 0, 1.0, 1.0 if inner is None else inner)
    return np.stack((np.sin(angle), -np.cos(angle)), 1) * radius[:, None]


def _flower(petals: int) -> Points:
    return _polar(lambda angle: 0.65 + 0.35 * np.cos(petals * angle))


def _points(*flat: float) -> Points:
    return np.array(flat, dtype=np.float64).reshape(-1, 2)


def _lines(*segments: tuple[float, float, float, float]) -> list[Stroke]:
    return [(_points(*segment), False) for segment in segments]


def _dots(*centres: tuple[float, float]) -> list[Stroke]:
    return [(_polar(lambda _: 0.25, steps=10) + np.array(centre), True) for centre in centres]


def _geometric() -> dict[str, list[Stroke]]:
    wave = np.linspace(-1, 1, 40)
    closed = {
        **{f"polygon-{n}": _polygon(n) for n in (3, 4, 5, 6, 8)},
        **{f"star-{n}": _polygon(n, 0.42) for n in (3, 4, 5, 6, 8)},
        **{f"flower-{n}": _flower(n) for n in (3, 4, 5)},
        "square": _points(-0.8, -0.8, 0.8, -0.8, 0.8, 0.8, -0.8, 0.8),
        "rectangle": _points(-1, -0.45, 1, -0.45, 1, 0.45, -1, 0.45),
        "trapezoid": _points(-0.5, -0.6, 0.5, -0.6, 1, 0.6, -1, 0.6),
        "parallelogram": _points(-0.4, -0.5, 1, -0.5, 0.4, 0.5, -1, 0.5),
        "kite": _points(0, -0.6, 0.7, -0.1, 0, 1, -0.7, -0.1),
        "ring": _polar(lambda _: 0.9),
        "ellipse": _polar(lambda _: 1.0) * np.array([1, 0.5]),
        "half-disc": _polar(lambda _: 1.0, 0.5),
        "sector": np.concatenate((_points(0, 0), _polar(lambda _: 1.0, 0.75))),
        "crescent": np.concatenate((_polar(lambda _: 1.0, 0.5), _polar(lambda _: 1.0, 0.5)[::-1] * [0.4, 1])),
        "drop": _polar(lambda a: 0.35 + 0.65 * np.abs(np.cos(a / 2)) ** 6),
        "heart": _polar(lambda a: 0.5 + 0.5 * np.abs(np.sin(a / 2)) ** 0.5 - 0.1 * np.cos(2 * a)),
        "gear": _polar(lambda a: 0.8 + 0.2 * np.sign(np.sin(9 * a)), steps=96),
        "wedge": _points(-1, -0.7, 1, 0, -1, 0.7, -0.5, 0),
        "arrow": _points(0, -1, 0.8, -0.1, 0.3, -0.1, 0.3, 1, -0.3, 1, -0.3, -0.1, -0.8, -0.1),
        "bolt": _points(0.2, -1, -0.6, 0.2, 0, 0.2, -0.3, 1, 0.7, -0.3, 0.1, -0.3),
    }
    shapes = {name: [(points, True)] for name, points in closed.items()}
    shapes |= {
        "bar": _lines((0, -1, 0, 1)),
        "cross": _lines((-0.8, -0.8, 0.8, 0.8), (-0.8, 0.8, 0.8, -0.8)),
        "asterisk": _lines((0, -1, 0, 1), (-0.87, -0.5, 0.87, 0.5), (-0.87, 0.5, 0.87, -0.5)),
        "two-bars": _lines((-0.5, -1, -0.5, 1), (0.5, -1, 0.5, 1)),
        "three-bars": _lines((-0.8, -1, -0.8, 1), (0, -1, 0, 1), (0.8, -1, 0.8, 1)),
        "fan": _lines((0, 1, -0.9, -0.6), (0, 1, 0, -1), (0, 1, 0.9, -0.6)),
        "grid": _lines((-0.4, -1, -0.4, 1), (0.4, -1, 0.4, 1), (-1, -0.4, 1, -0.4), (-1, 0.4, 1, 0.4)),
        "chevron": [(_points(-0.9, 0.5, 0, -0.5, 0.9, 0.5), False)],
        "zigzag": [(_points(-1, 0.4, -0.6, -0.4, -0.2, 0.4, 0.2, -0.4, 0.6, 0.4, 1, -0.4), False)],
        "wave": [(np.stack((wave, 0.5 * np.sin(2.5 * np.pi * wave)), 1), False)],
        "arc": [(_polar(lambda _: 0.9, 0.35), False)],
        "open-ring": [(_polar(lambda _: 0.9, 0.7), False)],
        "spiral": [(_polar(lambda a: a / (5 * np.pi), 2.5, 80), False)],
        "concentric": [(_polar(lambda _: 1.0), True), (_polar(lambda _: 0.5), True)],
        "nested-squares": [(_polygon(4), True), (_polygon(4) * 0.5, True)],
        "two-dots": _dots((-0.6, 0), (0.6, 0)),
        "three-dots": _dots((0, -0.7), (-0.65, 0.5), (0.65, 0.5)),
        "four-dots": _dots((-0.6, -0.6), (0.6, -0.6), (-0.6, 0.6), (0.6, 0.6)),
        "five-dots": _dots((-0.7, -0.7), (0.7, -0.7), (0, 0), (-0.7, 0.7), (0.7, 0.7)),
    }
    return shapes


def _scribble(seed: int) -> list[Stroke]:
    """Two or three curved strokes, the same for a seed: a class of its own."""
    rng = np.random.default_rng([71, seed])
    strokes: list[Stroke] = []
    t = np.linspace(0, 1, 14)[:, None]
    last = rng.uniform(-0.9, 0.9, 2)
    for _ in range(int(rng.integers(2, 4))):
        start = last if rng.random() < 0.7 else rng.uniform(-0.9, 0.9, 2)
        end = rng.uniform(-0.9, 0.9, 2)
        while np.linalg.norm(end - start) < 0.7:
            end = rng.uniform(-0.9, 0.9, 2)
        bend = (start + end) / 2 + rng.choice([0.0, 1.0]) * rng.uniform(-1, 1, 2)
        strokes.append(((1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end, False))
        last = end
    every = np.concatenate([points for points, _ in strokes])
    low, high = every.min(0), every.max(0)
    return [((points - (low + high) / 2) * 1.9 / (high - low).max(), closed) for points, closed in strokes]


DIGIT_LIKE = {
    10,
    20,
    38,
    39,
    42,
    43,
    50,
    51,
    57,
    63,
    77,
    78,
    85,
    86,
    92,
    100,
    103,
    109,
    110,
    120,
    122,
    126,
    130,
}
DIGIT_LIKE |= {143, 149, 151, 153, 158, 166, 172}  # what chance made look like a digit, found by eye
BAR_LIKE = {2, 61, 81, 89, 93, 99, 131, 157}
KEPT = [number for number in range(180) if number not in DIGIT_LIKE | BAR_LIKE]
SHAPES = _geometric() | {f"scribble-{number}": _scribble(number) for number in KEPT}
TEXTURES = ("plain", "gradient", "stripes", "checks", "spots", "grain")
TASKS = {"shape": len(SHAPES), "texture": len(TEXTURES), "tilt": 3, "ink": 4, "count": 4}
_STROKES = tuple(SHAPES.values())
_Y, _X = np.mgrid[0:SIDE, 0:SIDE] / SIDE - 0.5


def _texture(kind: str, rng: np.random.Generator) -> Points:
    """A SIDE x SIDE pattern in [-1, 1]."""
    angle, frequency = rng.uniform(0, np.pi), rng.uniform(3, 9)
    u = _X * np.cos(angle) + _Y * np.sin(angle)
    v = _Y * np.cos(angle) - _X * np.sin(angle)
    wave_u, wave_v = np.sin(2 * np.pi * frequency * u), np.sin(2 * np.pi * frequency * v)
    pattern: Points = np.zeros((SIDE, SIDE))
    if kind == "gradient":
        pattern = 2 * u
    elif kind == "stripes":
        pattern = wave_u
    elif kind == "checks":
        pattern = np.sign(wave_u * wave_v)
    elif kind == "spots":
        pattern = np.maximum(wave_u * wave_v, 0) * 2 - 1
    elif kind == "grain":
        pattern = rng.uniform(-1, 1, (SIDE // 2, SIDE // 2)).repeat(2, 0).repeat(2, 1)
    return pattern


def _mask(strokes: list[Stroke], ink: int, tilt: int, count: int, rng: np.random.Generator) -> Points:
    """Coverage in [0, 1] of `count` copies drawn with one pen."""
    image = Image.new("L", (CANVAS, CANVAS))
    draw = ImageDraw.Draw(image)
    size = rng.uniform(0.28, 0.44) * CANVAS if count == 1 else rng.uniform(0.15, 0.22) * CANVAS
    width = max(2, round((0.09, 0.18, 0.3, 0.1)[ink] * size * rng.uniform(0.85, 1.2)))
    for cell in rng.permutation(4)[:count]:
        angle = 0.25 * (tilt - 1) + rng.uniform(-0.125, 0.125)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        stretch = np.array([[rng.uniform(0.6, 1.0), 0], [rng.uniform(-0.2, 0.2), rng.uniform(0.75, 1.0)]])
        room = CANVAS * 0.5 - size if count == 1 else CANVAS * 0.25 - size
        cells = np.array([0.5, 0.5]) if count == 1 else np.array([cell % 2, cell // 2]) / 2 + 0.25
        centre = cells * CANVAS + rng.uniform(-1, 1, 2) * max(room, 2.0)
        for points, closed in strokes:
            bow = points[:, ::-1] ** 2 * rng.normal(0, 0.1, 2) + rng.normal(0, 0.06, 2)
            placed = ((points + bow) @ stretch @ turn) * size + centre
            xy = [(float(x), float(y)) for x, y in placed]
            if closed and ink == 3:
                draw.polygon(xy, fill=255)
            else:
                draw.line(xy + xy[:2] if closed else xy, fill=255, width=width, joint="curve")
    if rng.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 3.0)))
    return np.asarray(image.reduce(CANVAS // SIDE), dtype=np.float64) / 255


def draw_image(seed: int, index: int) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """Image `index` of a seed, (height, width, RGB and the shape's coverage), with a label per task."""
    rng = np.random.default_rng([seed, index])
    shape = index % len(SHAPES)
    tilt, ink = int(rng.integers(3)), int(rng.integers(4))
    strokes = _STROKES[shape]
    if ink == 3 and not any(closed for _, closed in strokes):
        ink = int(rng.integers(3))
    count = 1 if rng.random() < 0.9 else int(rng.integers(2, 5))
    grey, texture = rng.random() < 0.5, int(rng.choice(6, p=(0.6, 0.08, 0.08, 0.08, 0.08, 0.08)))
    back, front = rng.uniform(0, 1, 3), rng.uniform(0, 1, 3)
    while abs(front.mean() - back.mean()) < 0.35:
        back, front = rng.uniform(0, 1, 3), rng.uniform(0, 1, 3)
    if grey:
        back, front = np.full(3, back.mean()), np.full(3, front.mean())
    if (front.mean() < back.mean()) == (rng.random() < 0.75):  # mostly bright on dark
        back, front = front, back
    strength = abs(front.mean() - back.mean()) * rng.uniform(0.1, 0.35)
    ground = back + _texture(TEXTURES[texture], rng)[..., None] * strength
    cover = _mask(strokes, ink, tilt, count, rng)[..., None]
    pixels = ground * (1 - cover) + front * cover + rng.normal(0, rng.uniform(0, 0.06), (SIDE, SIDE, 1))
    image = (np.clip(np.concatenate((pixels, cover), 2), 0, 1) * 255).round().astype(np.uint8)
    return image, [shape, texture, tilt, ink, count - 1]


def draw_set(count: int, seed: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """`count` images, whose shapes take turns, and their labels (count, tasks)."""
    drawn = [draw_image(seed, index) for index in range(count)]
    return np.stack([image for image, _ in drawn]), np.array([labels for _, labels in drawn], dtype=np.int64)


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


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the backbone of `e2vpt demo` on drawn images.")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the fp16 backbone goes")
    parser.add_argument("--work", type=Path, default=WORK, help="drawings and checkpoint")
    parser.add_argument("--images", type=int, default=64_000)
    parser.add_argument("--val-images", type=int, default=4_000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    model = train(args)
    tensors = {name: value.half().contiguous() for name, value in model.backbone.state_dict().items()}
    save_file(tensors, args.output, metadata={"architecture": architecture_json()})
    model.backbone.load_state_dict({name: value.float() for name, value in tensors.items()})
    held_out = load_drawings(args.work, args.val_images, args.seed + 1)
    print(f"wrote {args.output} ({args.output.stat().st_size} bytes); in fp16:", evaluate(model, *held_out))


if __name__ == "__main__":
    main()
