"""Small copies of images that travel inside an HTML file."""

from __future__ import annotations

from PIL import Image

from e2vpt.data import ImageSource
from e2vpt.insight.documents import data_uri

_SIDE, _QUALITY = 128, 72


def thumbnail(image: ImageSource) -> str:
    """A JPEG of at most 128 x 128 pixels as a data URI, some kilobytes long.

    Raises:
        UnreadableImages: the image does not decode.
    """
    small = image.open()
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return data_uri(small, quality=_QUALITY, optimize=True)
