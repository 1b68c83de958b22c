"""Small copies of images that travel inside an HTML file."""

from __future__ import annotations

import base64
import io

from PIL import Image

from e2vpt.data import ImageSource

_SIDE, _QUALITY = 128, 72


def thumbnail(image: ImageSource) -> str:
    """A JPEG of at most 128 x 128 pixels as a data URI, some kilobytes long.

    Raises:
        UnreadableImages: the image does not decode.
    """
    small = image.open()
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
