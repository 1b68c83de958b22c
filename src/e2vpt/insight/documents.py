"""Pages that are one file: style, script and pictures inside, nothing asked of a network."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

import e2vpt

_TEMPLATES = Path(__file__).parent / "page"


def filled(template: str, **values: Any) -> str:
    """A template with values, each escaped; drawings of this package are marked as safe by the template."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"drawing": Markup, "for_script": _for_script}
    return environment.get_template(template).render(version=e2vpt.__version__, **values)


def _for_script(data: Any) -> Markup:
    """JSON inside a script element, where nothing is escaped and "</" alone would end it."""
    return Markup(json.dumps(data, ensure_ascii=True).replace("<", "\\u003c"))


def data_uri(image: Image.Image, *, quality: int = 85, optimize: bool = False) -> str:
    """The image, as a JPEG, as an address that holds it whole."""
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=quality, optimize=optimize)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
