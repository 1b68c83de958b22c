"""What the backbone expects, and what a stranger's file may not claim."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torchvision import transforms

from e2vpt.config import DataConfig
from e2vpt.data.preprocess import Preprocessing, preprocessing_for
from e2vpt.data.transforms import eval_transform
from e2vpt.errors import ConfigError

_GOOD = Preprocessing(image_size=(64, 96), mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1), crop_pct=0.9)


def test_json_round_trip() -> None:
    assert Preprocessing.from_dict(json.loads(json.dumps(_GOOD.to_dict()))) == _GOOD


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_size", [7, 64]),
        ("image_size", [64, 4097]),
        ("image_size", [64]),
        ("image_size", [64.0, 64.0]),
        ("image_size", [True, True]),
        ("image_size", 64),
        ("mean", [0.5, 0.5]),
        ("mean", ["0.5", 0.5, 0.5]),
        ("mean", [math.nan, 0.5, 0.5]),
        ("mean", [10**400, 0.5, 0.5]),
        ("mean", [1e15, 0.5, 0.5]),
        ("std", [0.0, 0.5, 0.5]),
        ("std", [1e-320, 0.5, 0.5]),
        ("std", [1e-30, 0.5, 0.5]),
        ("std", [1e30, 0.5, 0.5]),
        ("std", [-0.1, 0.5, 0.5]),
        ("std", [math.inf, 0.5, 0.5]),
        ("interpolation", "random"),
        ("interpolation", ["bicubic"]),
        ("crop_pct", 0.0),
        ("crop_pct", 1.01),
        ("crop_pct", 1e-6),
        ("crop_pct", None),
        ("crop_mode", {"a": 1}),
        ("interpolation", "tensorflow-bicubic"),
    ],
)
def test_junk_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"Preprocessing: {field} is .*; expected"):
        Preprocessing.from_dict({**_GOOD.to_dict(), field: value})


@pytest.mark.parametrize("values", [{}, {**_GOOD.to_dict(), "extra": 1}, [1, 2], None])
def test_exactly_the_fields(values: Any) -> None:
    with pytest.raises(ConfigError, match="expected exactly image_size, mean"):
        Preprocessing.from_dict(values)


def test_backbone_preset_is_the_checkpoint_s() -> None:
    model = timm.create_model("vit_tiny_patch16_224.augreg_in21k_ft_in1k", pretrained=False)
    prep = preprocessing_for(model, DataConfig())
    expected = Preprocessing(image_size=(224, 224), mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=0.9)  # type: ignore[arg-type]
    assert prep == expected
    assert preprocessing_for(model.pretrained_cfg, DataConfig()) == prep
    assert preprocessing_for(model, DataConfig(image_size=96)).image_size == (96, 96)


def test_imagenet_preset_is_the_official_code_s() -> None:
    prep = preprocessing_for(
        {"input_size": (3, 224, 224), "mean": (0.5,) * 3}, DataConfig(preprocess="imagenet")
    )
    assert prep.mean == (0.485, 0.456, 0.406)
    assert (prep.interpolation, prep.crop_mode, prep.crop_pct) == ("tensorflow-bilinear", "squash", 1.0)
    assert prep.as_stored


def test_imagenet_crop_is_the_official_code_s_for_fgvc() -> None:
    """KMnP/vpt, src/data/transforms.py: the short side to 256 (438 for 384 px), and the centre of it."""
    cfg = {"input_size": (3, 224, 224), "mean": (0.5,) * 3}
    noise = np.random.default_rng(0).integers(0, 256, (300, 500, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    for size, short in ((224, 256), (384, 438)):
        prep = preprocessing_for(cfg, DataConfig(preprocess="imagenet-crop", image_size=size))
        steps = [transforms.Resize(short), transforms.CenterCrop(size), transforms.ToTensor()]
        steps += [transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
        assert torch.equal(eval_transform(prep)(image), transforms.Compose(steps)(image))
        assert Preprocessing.from_dict(prep.to_dict()) == prep and not prep.as_stored


def test_files_of_before_keep_pillow_s_resizing() -> None:
    """Until TensorFlow's was told apart, the same preset was saved as "bilinear"."""
    saved = {**_GOOD.to_dict(), "interpolation": "bilinear", "crop_mode": "squash", "crop_pct": 1.0}
    prep = Preprocessing.from_dict(saved)
    assert (prep.interpolation, prep.as_stored) == ("bilinear", False)


@pytest.mark.parametrize("values", [{"crop_mode": "center"}, {"crop_pct": 0.9, "crop_mode": "squash"}])
def test_tensorflow_resizes_straight_to_the_size(values: Any) -> None:
    with pytest.raises(ConfigError, match="expected squash, crop_pct 1 with tensorflow-bilinear"):
        Preprocessing.from_dict(
            {**_GOOD.to_dict(), "crop_pct": 1.0, **values, "interpolation": "tensorflow-bilinear"}
        )


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_the_size_a_model_was_built_for_counts(name: str) -> None:
    model = timm.create_model(name, img_size=64, depths=(1, 1, 1, 1)) if "swin" in name else None
    model = model or timm.create_model(name, img_size=(64, 96), depth=1)
    assert preprocessing_for(model, DataConfig()).image_size == ((64, 64) if "swin" in name else (64, 96))


def test_models_that_take_no_rgb_images() -> None:
    with pytest.raises(ConfigError, match="input channels is 1"):
        preprocessing_for({"input_size": (1, 28, 28)}, DataConfig())
    model = timm.create_model("vit_tiny_patch16_224", depth=1, in_chans=4)
    with pytest.raises(ConfigError, match="input channels is 4; expected 3, RGB images; feed such a model"):
        preprocessing_for(model, DataConfig())
    with pytest.raises(ConfigError, match="no pretrained_cfg"):
        preprocessing_for({}, DataConfig())
