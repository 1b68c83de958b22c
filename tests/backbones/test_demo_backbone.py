"""The shipped demo backbone, and the script that drew its training images and trained it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer

from scripts.demo_backbone import drawing, training
from scripts.demo_backbone.shapes import SHAPES

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "src" / "e2vpt" / "backbones" / "demo_backbone.safetensors"
MAX_BYTES = 3 * 1024 * 1024


def test_weights_are_small_half_precision_and_finite() -> None:
    assert WEIGHTS.stat().st_size <= MAX_BYTES
    tensors = load_file(WEIGHTS)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def test_weights_fit_the_documented_architecture() -> None:
    model = VisionTransformer(**training.ARCHITECTURE)
    model.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()}, strict=True)
    side = training.ARCHITECTURE["img_size"]
    images = torch.linspace(-1, 1, 2 * 3 * side * side).reshape(2, 3, side, side)
    with torch.no_grad():
        features = model.eval()(images)
    assert features.shape == (2, training.ARCHITECTURE["embed_dim"])
    assert torch.isfinite(features).all()
    assert not torch.allclose(features[0], features[1])


def test_weights_state_their_architecture() -> None:
    with safe_open(WEIGHTS, framework="pt") as stored:
        assert stored.metadata() == {"architecture": training.architecture_json()}


def test_trained_backbone_names_drawings() -> None:
    """Drawings of one shape lie near each other, so the file isn't an untrained network."""
    model = VisionTransformer(**training.ARCHITECTURE)
    model.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    shapes = np.tile(np.arange(40), 6)
    rounds = np.repeat(np.arange(6), 40) * len(SHAPES)
    drawings = np.stack([drawing.draw_image(91, int(index))[0] for index in shapes + rounds])
    images, _ = training.prepare(torch.from_numpy(drawings).permute(0, 3, 1, 2))
    with torch.no_grad():
        features = torch.nn.functional.normalize(model.eval()(images), dim=1)
    nearest = (features @ features.T).fill_diagonal_(-1).argmax(1).numpy()
    assert (shapes[nearest] == shapes).mean() > 0.25  # chance is 5 / 239


def test_drawing_is_deterministic_for_a_seed() -> None:
    images, labels = drawing.draw_set(6, seed=5)
    again, same = drawing.draw_set(6, seed=5)
    other, _ = drawing.draw_set(6, seed=6)
    assert np.array_equal(images, again) and np.array_equal(labels, same)
    assert not np.array_equal(images, other)
    assert images.shape == (6, drawing.SIDE, drawing.SIDE, 4) and images.dtype == np.uint8


def test_drawing_makes_every_class_of_every_task() -> None:
    images, labels = drawing.draw_set(3 * len(SHAPES), seed=5)
    for task, (name, classes) in enumerate(drawing.TASKS.items()):
        assert set(labels[:, task]) == set(range(classes)), name
    cover = images[..., 3].reshape(len(images), -1)
    assert (cover.max(1) > 60).all(), "a drawing without its shape"
    assert len(SHAPES) >= 40


def test_shapes_differ_and_stay_within_their_box() -> None:
    seen = set()
    for name, strokes in SHAPES.items():
        assert strokes, name
        for points, _ in strokes:
            assert np.abs(points).max() < 1.05, name
        seen.add(tuple(points.round(3).tobytes() for points, _ in strokes))
    assert len(seen) == len(SHAPES)
