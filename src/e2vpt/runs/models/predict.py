"""Class names and probabilities for image files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from e2vpt.config.fields import check_count
from e2vpt.data import ImageFile, ImageInMemory, ImageSource, Preprocessing, eval_transform, image_suffixes
from e2vpt.data.decoding.room import held
from e2vpt.data.sources.listing import list_folder
from e2vpt.data.transforms import Transform
from e2vpt.errors import DataError, UnreadableImages, visible
from e2vpt.files.paths import look_at
from e2vpt.prompting.folding import folded
from e2vpt.prompting.parts import evaluating


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What one image shows.

    Attributes:
        file: the image's name.
        classes: names, most probable first.
        scores: their probabilities, 0 to 1.
        error: why the image could not be read, else "".
    """

    file: str
    classes: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    error: str = ""


def find_images(paths: Iterable[str | Path]) -> list[ImageSource]:
    """The image files named, and those anywhere below the folders named, found as for training, in order.

    Raises:
        DataError: a folder without images, or with a folder inside that cannot be read.
    """
    found: list[ImageSource] = []
    for path in map(Path, paths):
        if look_at(path, DataError) != "folder":
            found.append(ImageFile(name=visible(str(path)), path=path))
            continue
        images = list_folder(path).images()
        if not images:
            some = ", ".join(sorted(image_suffixes())[:8])
            raise DataError(f"{visible(str(path))} holds no image file ({some}, ...).")
        found += images.values()
    return found


def predict_images(
    model: nn.Module,
    images: Sequence[ImageSource],
    *,
    classes: Sequence[str],
    preprocessing: Preprocessing,
    topk: int = 1,
    batch_size: int = 32,
) -> Iterator[Prediction]:
    """The `topk` most probable classes of each image, in order; an unreadable one yields its error.

    Until the last one is given the model is in eval mode, and its prompts are folded (`e2vpt.folded`).
    """
    check_count("topk", topk, 1)
    with evaluating(model), folded(model):
        for batch in opened_batches(images, preprocessing, batch_size):
            good = [tensor for _, tensor in batch if isinstance(tensor, Tensor)]
            rows = iter(probabilities(model, torch.stack(good)) if good else ())
            for image, tensor in batch:
                if isinstance(tensor, str):
                    yield Prediction(file=image.name, error=tensor)
                else:
                    yield _prediction(image.name, next(rows), classes, topk)


def opened_batches(
    images: Sequence[ImageSource], preprocessing: Preprocessing, batch_size: int
) -> Iterator[list[tuple[ImageSource, Tensor | str]]]:
    """Each image with its tensor [3, h, w], or with why it cannot be read; batch by batch, in order."""
    check_count("batch_size", batch_size, 1)
    transform = eval_transform(preprocessing)
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            opened = pool.map(lambda image: _load(image, transform, preprocessing.as_stored), batch)
            yield list(zip(batch, opened, strict=True))


@torch.inference_mode()
def probabilities(model: nn.Module, images: Tensor) -> Tensor:
    """Softmax over the classes [B, C] of images [B, 3, h, w], on the CPU."""
    device = next(model.parameters()).device
    result: Tensor = model(images.to(device)).float().softmax(1).cpu()
    return result


def _load(image: ImageSource, transform: Transform, as_stored: bool) -> Tensor | str:
    try:
        with held():
            return transform(image.open(as_stored))
    except UnreadableImages as error:
        return "; ".join(error.problems.values())


def _prediction(name: str, scores: Tensor, classes: Sequence[str], topk: int) -> Prediction:
    values, indices = scores.topk(min(topk, len(classes)))
    return Prediction(
        file=name, classes=tuple(classes[i] for i in indices.tolist()), scores=tuple(values.tolist())
    )


def stack_probabilities(
    model: nn.Module, images: Sequence[ImageSource], preprocessing: Preprocessing, batch_size: int = 32
) -> NDArray[np.float64]:
    """Probabilities [n, C] of one image or more.

    Raises:
        UnreadableImages: naming every image that does not decode.
    """
    rows: list[Tensor] = []
    problems: dict[str, str] = {}
    with evaluating(model), folded(model):
        for batch in opened_batches(images, preprocessing, batch_size):
            problems |= {image.name: found for image, found in batch if isinstance(found, str)}
            good = [found for _, found in batch if isinstance(found, Tensor)]
            if not problems:
                rows.append(probabilities(model, torch.stack(good)))
    if problems:
        raise UnreadableImages(problems)
    return torch.cat(rows).double().numpy()


def as_sources(images: Any) -> list[ImageSource]:
    """Images as a user gives them: a path, a picture, or several of either."""
    if isinstance(images, (str, PathLike)) or not isinstance(images, Iterable) or _is_picture(images):
        images = [images]
    sources: list[ImageSource] = []
    for index, image in enumerate(images):
        if isinstance(image, (str, PathLike)):
            sources += find_images([Path(image)])
        elif isinstance(image, (ImageFile, ImageInMemory)):
            sources.append(image)
        else:
            sources.append(ImageInMemory(name=f"image {index}", pixels=image))
    return sources


def _is_picture(images: Any) -> bool:
    """A single array or tensor, not a batch of four dimensions or a list."""
    return hasattr(images, "shape") and len(images.shape) < 4
