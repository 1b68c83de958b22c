"""Small copies of images: bounded, in their own proportions, and whole inside a page."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from e2vpt.data import ImageInMemory
from e2vpt.insight.reports.thumbnails import thumbnail


@pytest.mark.parametrize(
    ("shape", "size"), [((400, 800), (128, 64)), ((300, 100), (43, 128)), ((5, 9), (9, 5))]
)
def test_no_side_is_longer_than_128(shape: tuple[int, int], size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    uri = thumbnail(ImageInMemory(name="a", pixels=pixels))
    head, _, body = uri.partition(",")
    assert head == "data:image/jpeg;base64" and len(uri) < 20_000
    with Image.open(io.BytesIO(base64.b64decode(body))) as image:
        assert image.size == size and image.mode == "RGB"
