"""Train the small backbone that `e2vpt demo` adapts, on images that this script draws itself.

The images are procedural: geometric shapes and fixed random scribbles over plain or textured grounds. No
font is loaded and no digit is drawn, so handwritten digits are unseen (though a ring is like a nought).
Linear heads learn five labels per image from the class token, and which pixels the shape covers from the
patch tokens. The heads are thrown away; only the backbone is kept.

    OMP_NUM_THREADS=1 python -m scripts.demo_backbone

An interrupted run goes on from its last finished epoch (see --work).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file

from scripts.demo_backbone.training import architecture_json, evaluate, load_drawings, train

WORK = Path("/tmp/e2vpt-pretrain")
OUTPUT = Path(__file__).resolve().parents[2] / "src" / "e2vpt" / "backbones" / "demo_backbone.safetensors"


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
