"""Encoded images of a request become tensors, by the code of `e2vpt predict`."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from torch import Tensor

from e2vpt.data import Preprocessing, eval_transform
from e2vpt.data.decoding.images import decode
from e2vpt.data.decoding.room import held
from e2vpt.data.transforms import Transform
from e2vpt.errors import UnreadableImages, visible
from e2vpt.serving.refusals import Refused

_transform = functools.lru_cache(maxsize=256)(eval_transform)


@dataclass(frozen=True, kw_only=True, slots=True)
class AskedImage:
    """An image of a request.

    Attributes:
        name: what messages call it.
        task: its task's name.
        data: encoded, as a JPEG or PNG file, say.
    """

    name: str
    task: str
    data: bytes


def opened(image: AskedImage, preprocessing: Preprocessing) -> Tensor:
    """The image as its task wants it, [3, h, w]; all threads together decode a bounded number of pixels.

    Raises:
        Refused: 422, it cannot be read.
    """
    transform: Transform = _transform(preprocessing)
    try:
        with held():
            return transform(decode(image.data, image.name, preprocessing.as_stored))
    except UnreadableImages as error:
        problems = "; ".join(f"{visible(name)}: {why}" for name, why in error.problems.items())
        raise Refused(422, f"An image cannot be read. {problems}") from error
