"""What a loaded adapter has to be, by an independent reading of its file."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform
from torch import Tensor, nn

import e2vpt
from e2vpt.errors import visible
from e2vpt.prompting.parts import classifier, find_prompts
from scripts.mutate.adapter_bases import Base, opened

PICTURES = tuple(
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (37 + 8 * seed, 44, 3), dtype=np.uint8))
    for seed in range(3)
)


def wrong_adapter(base: Base, path: Path, model: e2vpt.TaskModel, made: dict[str, Any]) -> str:
    header, tensors = opened(path)
    return (
        _wrong_words(header, model)
        or _wrong_print(header, path, *made["printed"])
        or _wrong_numbers(base, header, tensors, model, made)
        or _wrong_copy(base, path, model)
    )


def _wrong_words(header: dict[str, Any], model: e2vpt.TaskModel) -> str:
    """Every field of the file is what the model says of itself."""
    info = model.info
    prompts = {n: tuple(v) if isinstance(v, list) else v for n, v in header["prompts"].items()}
    prep = {n: tuple(v) if isinstance(v, list) else v for n, v in header["preprocessing"].items()}
    expected = {
        **{
            name: header[name]
            for name in ("method", "backbone", "fingerprint", "pool", "precision", "layout")
        },
        "classes": tuple(header["classes"]),
        "metrics": header["metrics"],
        "versions": header["versions"],
        "visual_before": tuple(header["visual_before"]),
        "segments": tuple(header["segments"]),
        "prompts": e2vpt.PromptConfig(**prompts),
        "options": e2vpt.MethodConfig(**header["options"]),
        "preprocessing": e2vpt.Preprocessing(**prep),
    }
    wrong = [name for name, value in expected.items() if getattr(info, name) != value]
    kinds = [header["format"], header["blocks"], *header["visual_before"], *header["segments"]]
    if any(type(value) is not int for value in kinds) or any(
        isinstance(value, bool) for value in header["metrics"].values()
    ):
        return "a number that is none was taken"
    if len({name.strip().casefold() for name in info.classes}) < len(info.classes):
        pass  # Such names may be meant.
    return f"info differs from the file in {wrong}" if wrong else ""


def _wrong_print(header: dict[str, Any], path: Path, text: str, as_json: str) -> str:
    found = json.loads(as_json, parse_constant=lambda word: _refuse(word))
    if found["method"] != header["method"] or found["bytes"] != path.stat().st_size:
        return f"info --json: {found['method']}, {found['bytes']} bytes"
    odd = [line for line in text.splitlines() if visible(line) != line]
    return f"info prints {odd[0]!r}" if odd else ""


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is not JSON")


def _wrong_numbers(
    base: Base,
    header: dict[str, Any],
    tensors: dict[str, Tensor],
    model: e2vpt.TaskModel,
    made: dict[str, Any],
) -> str:
    """Logits are those of the tensors in the file, put on the plain backbone by hand."""
    by_hand = _by_hand(base, header, tensors)
    pixels = torch.stack([_transform(header["preprocessing"])(picture) for picture in PICTURES])
    with torch.inference_mode():
        wanted, found = by_hand(pixels), model.model(pixels)
    if not wanted.equal(found) and not (wanted.isnan() == found.isnan()).all():
        return "logits are not finite in other places"
    if not torch.allclose(wanted, found, rtol=1e-4, atol=1e-5, equal_nan=True):
        return f"logits differ by {float((wanted - found).abs().max())}"
    probabilities = wanted.softmax(1)
    for row, prediction in zip(probabilities, made["predicted"], strict=True):
        if prediction.error:
            if row.isfinite().all():
                return f"predict: {prediction.error}"
            continue
        scores = dict(zip(prediction.classes, prediction.scores, strict=True))
        if not all(np.isfinite(list(scores.values()))):
            return f"predicted {scores}"
        expected = dict(zip(header["classes"], row.tolist(), strict=True))
        if scores.keys() != expected.keys() or max(abs(scores[n] - expected[n]) for n in scores) > 1e-4:
            return f"predicted {scores}, expected {expected}"
    if "evaluated" in made:
        right = [header["classes"][int(row.argmax())] for row in wanted]
        accuracy = sum(map(str.__eq__, right, ("cat", "dog", "emu"))) / 3
        if abs(made["evaluated"].accuracy - accuracy) > 1e-9 or not np.isfinite(made["evaluated"].loss):
            return f"evaluated {made['evaluated']}, expected accuracy {accuracy}"
    return ""


def _transform(values: dict[str, Any]) -> Any:
    return create_transform(
        input_size=(3, *values["image_size"]),
        is_training=False,
        **{name: values[name] for name in ("interpolation", "mean", "std", "crop_pct", "crop_mode")},
    )


@torch.no_grad()
def _by_hand(base: Base, header: dict[str, Any], tensors: dict[str, Tensor]) -> nn.Module:
    prompts = {n: tuple(v) if isinstance(v, list) else v for n, v in header["prompts"].items()}
    config, options = e2vpt.PromptConfig(**prompts), e2vpt.MethodConfig(**header["options"])
    if header["method"] == "bias" and options.beside == "bias":
        # Asked for twice, biases leave out those of keys; no softmax sees them, so all of them give the same.
        options = dataclasses.replace(options, beside="none")
    plain, size = copy.deepcopy(base.plain), header["preprocessing"]["image_size"]
    if base.backbone is None and size != [32, 32]:  # A backbone that is made by its name is made for them.
        plain = e2vpt.load_backbone("demo", num_classes=5, image_size=size[0])
    with torch.random.fork_rng():
        model = e2vpt.adapt(plain, header["method"], config, options)
    left = set(tensors)
    head = classifier(model)
    assert isinstance(head, nn.Linear)
    if len(tensors["head.bias"]) != len(head.bias):
        model.reset_classifier(len(tensors["head.bias"]))  # type: ignore[operator]
        head = classifier(model)
    head.weight.copy_(tensors["head.weight"])  # type: ignore[operator, union-attr]
    head.bias.copy_(tensors["head.bias"])  # type: ignore[operator, union-attr]
    left -= {"head.weight", "head.bias", "keep"}
    own = dict(model.named_parameters())
    for name in [name for name in left if name.startswith("tuned.")]:
        assert own[name[6:]].shape == tensors[name].shape and own[name[6:]].requires_grad, name
        own[name[6:]].copy_(tensors[name])
        left.remove(name)
    masks = _masks(header, tensors)
    for index, layer in enumerate(find_prompts(model)):
        for kind in ("key", "value"):
            stored = tensors.get(f"blocks.{index}.{kind}")
            if stored is not None:
                assert getattr(layer, kind).shape == stored.shape
                getattr(layer, kind).copy_(stored)
                left.discard(f"blocks.{index}.{kind}")
        stored = tensors.get(f"blocks.{index}.visual")
        if stored is None:
            continue
        left.remove(f"blocks.{index}.visual")
        keep = torch.ones_like(layer.visual) if masks is None else _channels(masks[index], layer, header)
        layer.keep.copy_(keep)
        whole = torch.zeros_like(layer.visual)
        if stored.dim() == 1:
            assert int(keep.sum()) == len(stored)
            whole[keep.bool()] = stored.to(whole)
        else:
            assert whole.shape == stored.shape
            whole = stored.to(whole)
        layer.visual.copy_(whole * keep)
    assert not left, f"loaded, and nothing was made of {left}"
    return model.eval()


def _masks(header: dict[str, Any], tensors: dict[str, Tensor]) -> list[Any] | None:
    if "keep" not in tensors:
        return None
    bits = "".join(f"{byte:08b}" for byte in tensors["keep"].tolist())
    masks, at = [], 0
    counts = e2vpt.PromptConfig(
        **{n: tuple(v) if isinstance(v, list) else v for n, v in header["prompts"].items()}
    ).visual_counts(header["blocks"])
    for count, segments in zip(counts, header["segments"], strict=True):
        used = [int(bit) for bit in bits[at : at + count * segments]]
        masks.append(np.array(used).reshape(count, segments))
        at += -(-count * segments // 8) * 8
    assert at == len(bits)
    return masks


def _channels(mask: Any, layer: Any, header: dict[str, Any]) -> Tensor:
    width, segments = layer.visual.shape[1], mask.shape[1]
    channels = np.arange(width)
    segment = channels % segments if header["layout"] == "strided" else channels // (width // segments)
    return torch.from_numpy(mask[:, segment]).float()


def _wrong_copy(base: Base, path: Path, model: e2vpt.TaskModel) -> str:
    """Saved and loaded again it gives the same logits, and says the same of itself."""
    again = path.with_name("again.safetensors")
    info = model.info
    e2vpt.save_adapter(
        model.model,
        again,
        classes=info.classes,
        preprocessing=info.preprocessing,
        metrics=info.metrics,
        precision=info.precision,
    )
    reloaded = e2vpt.load(again, base.backbone and copy.deepcopy(base.plain), device="cpu")
    pixels = torch.stack([_transform(info.preprocessing.to_dict())(picture) for picture in PICTURES])
    with torch.inference_mode():
        first, second = model.model(pixels), reloaded.model(pixels)
    if not torch.allclose(first, second, rtol=0, atol=0, equal_nan=True):
        return f"saved and loaded again, logits differ by {float((first - second).abs().max())}"
    same = (
        "classes",
        "preprocessing",
        "metrics",
        "method",
        "visual_before",
        "num_visual",
        "num_kv",
        "options",
    )
    other = [name for name in same if getattr(info, name) != getattr(reloaded.info, name)]
    return f"saved and loaded again, {other} differ" if other else ""
