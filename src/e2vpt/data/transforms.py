"""From an RGB image to a normalised tensor, for evaluation and, augmented, for training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform
from torch import Tensor
from torchvision import transforms

from e2vpt.data.preprocess import TENSORFLOW, Preprocessing

Transform = Callable[[Image.Image], Tensor]
Augment = Literal["none", "flip", "shift", "crop", "crop-flip", "randaugment"]
_ELONGATED = 8
"""From here on a side is shortened before it is resized."""


@dataclass(frozen=True, slots=True)
class Shortened:
    """Keeps very elongated images from being resized whole, to millions of pixels, for a small crop.

    Images up to 8 times as long as they are wide, or as the target is, pass unchanged. Of others, "center"
    and "random" resize only a part that holds the crop, twice the target long: the centre, with the pixels
    that resizing all of it gives (to 2 levels of 255), or one drawn at random. "squash" and "border" shrink
    the long side first.

    Attributes:
        scale: (H, W) that the next step resizes to.
        interpolation: Pillow's name of it.
        crop: how the image is cut or fitted afterwards.
    """

    scale: tuple[int, ...]
    interpolation: str
    crop: str

    def changes(self, image: Image.Image) -> bool:
        """Whether an image is as elongated as that."""
        long, short = sorted(side / to for side, to in zip(image.size, self.scale[::-1], strict=True))[::-1]
        return long > _ELONGATED * short and max(image.size) > _ELONGATED * min(image.size)

    def __call__(self, image: Image.Image) -> Image.Image:
        """The same image, or the shortened one."""
        if not self.changes(image):
            return image
        sides, target = image.size, self.scale[::-1]  # (W, H), as Pillow has it.
        ratios = [side / to for side, to in zip(sides, target, strict=True)]
        long, short = (0, 1) if ratios[0] > ratios[1] else (1, 0)
        resample = Image.Resampling[self.interpolation.upper()]
        size = list(sides)
        if self.crop == "squash":
            size[long] = min(sides[long], target[long])
            return image.resize((size[0], size[1]), resample)
        if self.crop == "border":
            size = [max(1, round(side / ratios[long])) for side in sides]
            return image.resize((size[0], size[1]), resample)
        full = sides[long] * target[short] / sides[short]
        whole = int(full) if target[0] == target[1] else round(full)
        # A multiple of 4 less, so that halves are rounded the same way and the centre stays where it was.
        part = 2 * target[long] + (whole - 2 * target[long]) % 4
        start = (whole - part) // 2
        if self.crop == "random":
            start = int(torch.randint(whole - part + 1, ()))
        size[long], size[short] = part, target[short]
        box = [0.0, 0.0, float(sides[0]), float(sides[1])]
        box[long], box[long + 2] = (at * sides[long] / whole for at in (start, start + part))
        return image.resize((size[0], size[1]), resample, box=(box[0], box[1], box[2], box[3]))


@dataclass(frozen=True, slots=True)
class SampledAsTensorFlow:
    """RGB image to a float32 tensor [3, H, W] in [0, 1], as `tf.image.resize` and a division by 255 give it.

    Bilinear between the centres of the four closest pixels, without smoothing and without rounding. Pillow
    and torchvision round to 8 bits; `F.interpolate` does not, but takes the whole image as floats, a
    gigabyte of a large one.

    Attributes:
        size: (H, W).
    """

    size: tuple[int, int]

    def __call__(self, image: Image.Image) -> Tensor:
        """The resized image."""
        pixels = np.asarray(image)
        (rows, down), (columns, across) = map(_closest, pixels.shape[:2], self.size)
        four = pixels[rows[:, :, None, None], columns].astype(np.float32)  # [2, H, 2, W, 3]
        two = four[:, :, 0] + (four[:, :, 1] - four[:, :, 0]) * across[:, None]
        one = two[0] + (two[1] - two[0]) * down[:, None, None]
        return torch.from_numpy(one).permute(2, 0, 1).contiguous() / 255


def _closest(length: int, size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """For each of `size` points of an axis its two closest pixels [2, size], and the second one's weight."""
    at = (np.arange(size) + 0.5) * (length / size) - 0.5
    first = np.floor(at).astype(np.int64)
    return np.stack([first, first + 1]).clip(0, length - 1), (at - first).astype(np.float32)


def eval_transform(prep: Preprocessing) -> Transform:
    """RGB image to normalised float32 tensor [3, H, W]; the same image always gives the same tensor.

    Where `prep.as_stored`, the image is one of `ImageSource.open(as_stored=True)`.
    """
    made: Transform
    if prep.interpolation == TENSORFLOW:
        made = transforms.Compose(
            [SampledAsTensorFlow(prep.image_size), transforms.Normalize(prep.mean, prep.std)]
        )
        return made
    theirs = create_transform(
        input_size=(3, *prep.image_size),
        is_training=False,
        interpolation=prep.interpolation,
        mean=prep.mean,
        std=prep.std,
        crop_pct=prep.crop_pct,
        crop_mode=prep.crop_mode,
    )
    scale = tuple(math.floor(side / prep.crop_pct) for side in prep.image_size)
    made = transforms.Compose([Shortened(scale, prep.interpolation, prep.crop_mode), theirs])
    return made


@dataclass(frozen=True, slots=True)
class TrainTransform:
    """RGB image to normalised float32 tensor [3, H, W], in two steps.

    Attributes:
        begin: what needs no chance, and may be kept for the next epoch; None where chance comes first.
        finish: the rest, with torch's global random state.
        shortened: what cuts a part of very elongated images at random, before all else.
    """

    begin: Callable[[Image.Image], Tensor] | None
    finish: Callable[[Any], Tensor] | None = None
    shortened: Shortened | None = None

    def __call__(self, image: Image.Image) -> Tensor:
        """The whole transform."""
        return self.finished(self.begun(image)[0])

    def begun(self, image: Image.Image) -> tuple[Tensor | Image.Image, bool]:
        """The first step, and whether it comes out the same for this image every time."""
        if self.begin is None:
            return image, False
        if self.shortened is None:
            return self.begin(image), True
        return self.begin(self.shortened(image)), not self.shortened.changes(image)

    def finished(self, begun: Tensor | Image.Image) -> Tensor:
        """The second step."""
        if self.finish is not None:
            return self.finish(begun)
        assert isinstance(begun, Tensor)
        return begun


def train_transform(prep: Preprocessing, augment: Augment) -> TrainTransform:
    """RGB image to normalised float32 tensor [3, H, W], augmented with torch's global random state.

    "none" is `eval_transform` (VTAB), "flip" mirrors half of what it gives; "shift" resizes the short side to
    8/7 of the size and crops at random, "crop-flip" mirrors half of that (FGVC: 256 to 224); "crop" takes 60
    to 100 % of the area and never flips; "randaugment" crops 50 to 100 % of the area, flips and applies
    RandAugment. What is cropped is resized by Pillow, also where `prep` says TensorFlow.
    """
    if augment == "none":
        return TrainTransform(eval_transform(prep))
    if augment == "flip":
        return TrainTransform(eval_transform(prep), transforms.RandomHorizontalFlip())
    interpolation = "bilinear" if prep.interpolation == TENSORFLOW else prep.interpolation
    mode = transforms.InterpolationMode(interpolation)
    normalise = transforms.Normalize(prep.mean, prep.std)
    if augment in ("shift", "crop-flip"):
        short_side = round(max(prep.image_size) / 0.875)
        begin = transforms.Compose([transforms.Resize(short_side, mode), transforms.PILToTensor()])
        steps = [transforms.RandomCrop(prep.image_size)]
        steps += [transforms.RandomHorizontalFlip()] if augment == "crop-flip" else []
        steps += [transforms.ConvertImageDtype(torch.float32), normalise]
        shortened = Shortened((short_side, short_side), interpolation, "random")
        return TrainTransform(begin, transforms.Compose(steps), shortened)
    share = 0.6 if augment == "crop" else 0.5
    steps = [transforms.RandomResizedCrop(prep.image_size, scale=(share, 1.0), interpolation=mode)]
    if augment == "randaugment":
        steps += [transforms.RandomHorizontalFlip(), transforms.RandAugment()]
    return TrainTransform(None, transforms.Compose([*steps, transforms.ToTensor(), normalise]))
