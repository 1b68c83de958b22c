"""What a backbone expects of an image: size, crop, normalisation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from timm.data.config import resolve_data_config
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import nn

from e2vpt.config import DataConfig
from e2vpt.errors import ConfigError, check_type

TENSORFLOW = "tensorflow-bilinear"
"""An interpolation: four pixels around each point, in floats, however much smaller the image becomes."""
_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos", TENSORFLOW)
_CROP_MODES = ("center", "squash", "border")
_OFFICIAL: Mapping[str, Mapping[str, Any]] = {
    "imagenet": {"interpolation": TENSORFLOW, "crop_pct": 1.0, "crop_mode": "squash"},
    "imagenet-crop": {"interpolation": "bilinear", "crop_pct": 0.875, "crop_mode": "center"},
}
"""KMnP/vpt: for VTAB src/data/datasets/tf_dataset.py, for FGVC src/data/transforms.py."""
_MAX_SIDE = 4096
_LARGE = 1e6
"""Of mean and std: values of pixels are 0 to 1, in some models 0 to 255; float32 has to bear the quotient."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing:
    """How an image becomes a tensor [3, H, W]; checked when made, as strangers' adapter files hold it.

    `image_size` is (H, W) in pixels. The image is resized to image_size / crop_pct, its centre cut out:
    "center" keeps its proportions, "squash" does not, "border" pads. `mean` and `std` are of RGB in [0, 1].
    `interpolation` is Pillow's, which smooths where an image becomes smaller, or "tensorflow-bilinear", with
    which images are read and resized as `tf.image` does by default; only with "squash" and crop_pct 1.

    Raises:
        ConfigError: a value out of range.
    """

    image_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    crop_pct: float = 1.0
    crop_mode: str = "center"

    def __post_init__(self) -> None:
        _check_tuple("image_size", self.image_size, 2, int)
        _check_tuple("mean", self.mean, 3, float)
        _check_tuple("std", self.std, 3, float)
        sides_fit = all(8 <= side <= _MAX_SIDE for side in self.image_size)
        _require(sides_fit, "image_size", self.image_size, f"sides from 8 to {_MAX_SIDE}")
        _require(all(abs(value) <= _LARGE for value in self.mean), "mean", self.mean, f"at most {_LARGE:g}")
        fits = all(1 / _LARGE <= value <= _LARGE for value in self.std)
        _require(fits, "std", self.std, f"positive numbers from {1 / _LARGE:g} to {_LARGE:g}")
        _require(
            self.interpolation in _INTERPOLATIONS,
            "interpolation",
            self.interpolation,
            ", ".join(_INTERPOLATIONS),
        )
        _require(self.crop_mode in _CROP_MODES, "crop_mode", self.crop_mode, ", ".join(_CROP_MODES))
        crops = _is_number(self.crop_pct) and 0 < self.crop_pct <= 1
        _require(crops, "crop_pct", self.crop_pct, "a number in (0, 1]")
        # A tiny crop_pct would have an image resized to more pixels than any memory holds.
        resized = max(self.image_size) / self.crop_pct
        _require(
            resized <= 2 * _MAX_SIDE,
            "crop_pct",
            self.crop_pct,
            f"image_size / crop_pct of at most {2 * _MAX_SIDE}",
        )

        whole = self.crop_mode == "squash" and self.crop_pct == 1
        _require(
            whole or not self.as_stored, "crop_mode", self.crop_mode, f"squash, crop_pct 1 with {TENSORFLOW}"
        )

    @property
    def as_stored(self) -> bool:
        """Whether images are read as TensorFlow decodes them, see `ImageSource.open`."""
        return self.interpolation == TENSORFLOW

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """From plain JSON values, every field given.

        Raises:
            ConfigError: a field missing, unknown, of the wrong type or out of range.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(values, Mapping) or set(values) != set(names):
            found = ", ".join(sorted(map(str, values))) if isinstance(values, Mapping) else repr(values)
            raise ConfigError(
                f"Preprocessing has {found or 'no fields'}; expected exactly {', '.join(names)}."
            )
        made: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**made)


def check_rgb(model: nn.Module) -> None:
    """Hold a model to the three channels that images are read with.

    Raises:
        ConfigError: its first layer takes another number; `pretrained_cfg` would not tell.
    """
    projection = getattr(getattr(model, "patch_embed", None), "proj", None)
    channels = getattr(projection, "in_channels", 3)
    expected = "3, RGB images; feed such a model by your own loader, and give save_adapter a preprocessing"
    _require(channels == 3, "input channels", channels, expected)


def preprocessing_for(backbone: nn.Module | Mapping[str, Any], config: DataConfig) -> Preprocessing:
    """The preprocessing of a timm model, or of a pretrained_cfg.

    `config.preprocess` "backbone" is the checkpoint's own; the others have ImageNet's mean and standard
    deviation. "imagenet" is the official code's for VTAB: straight to the size by TensorFlow;
    "imagenet-crop" its for FGVC: the short side to 8/7 of the size by Pillow, bilinear, and the centre. The
    size is `config.image_size`, else the one the model was built for.

    Raises:
        ConfigError: the model does not take RGB images, or its configuration is out of range.
    """
    check_type("config", config, DataConfig)
    timms = resolve_data_config(pretrained_cfg=_pretrained_cfg(backbone))  # type: ignore[no-untyped-call]
    channels, height, width = timms["input_size"]
    _require(channels == 3, "input channels", channels, "3, RGB images")
    if isinstance(backbone, nn.Module):
        check_rgb(backbone)
    size = _pair(config.image_size) or _built_for(backbone) or (height, width)
    if config.preprocess == "backbone":
        own = {name: timms[name] for name in ("interpolation", "crop_pct", "crop_mode")}
        return Preprocessing(image_size=size, mean=tuple(timms["mean"]), std=tuple(timms["std"]), **own)
    return Preprocessing(
        image_size=size,
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        **_OFFICIAL[config.preprocess],
    )


def _pretrained_cfg(backbone: nn.Module | Mapping[str, Any]) -> dict[str, Any]:
    cfg = getattr(backbone, "pretrained_cfg", None) if isinstance(backbone, nn.Module) else backbone
    if not isinstance(cfg, Mapping) or not cfg:
        raise ConfigError(
            "The model has no pretrained_cfg, so its preprocessing is unknown; expected a timm model."
        )
    return dict(cfg)


def _built_for(backbone: nn.Module | Mapping[str, Any]) -> tuple[int, int] | None:
    """timm leaves pretrained_cfg as it is when a model is built with another `img_size`."""
    return _pair(getattr(getattr(backbone, "patch_embed", None), "img_size", None))


def _pair(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    return (size, size) if isinstance(size, int) else size


def _check_tuple(name: str, value: object, length: int, kind: type) -> None:
    fits = isinstance(value, tuple) and len(value) == length and all(map(_is_number, value))
    fits = fits and (kind is float or all(type(item) is int for item in value))  # type: ignore[attr-defined]
    _require(fits, name, value, f"{length} {'whole' if kind is int else 'finite'} numbers")


def _is_number(value: object) -> bool:
    """A finite float, or an integer small enough to become one."""
    return type(value) in (int, float) and abs(value) < 2**53  # type: ignore[arg-type]


def _require(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise ConfigError(f"Preprocessing: {name} is {value!r}; expected {expected}.")
