"""Pages that are one file: style, script and pictures inside, nothing asked of a network."""

from __future__ import annotations

import base64
import html
import io
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

import e2vpt
from e2vpt.errors import visible

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
    environment.filters["drawing"] = Markup
    return environment.get_template(template).render(**values)


def one_file_page(title: str, body: str, *, script: str = "", data: Any = None) -> bytes:
    """A whole page. `script` names a file of this package, which finds `data` as JSON in #data."""
    # Inside a script element nothing is escaped; "</" alone would end it.
    values = json.dumps(data, ensure_ascii=True).replace("<", "\\u003c")
    code = (_TEMPLATES / script).read_text(encoding="utf-8") if script else ""
    return filled(
        "document.html",
        title=visible(title),
        body=body,
        script=code,
        data=values,
        version=e2vpt.__version__,
    ).encode()


def marked_up(text: str) -> str:
    """A name of a file, a class or a run, safe to stand anywhere in a page."""
    return html.escape(visible(text))


def scrolling_table(label: str, head: str, rows: str, *, kind: str = "", caption: str = "") -> str:
    """A table that scrolls by itself where the page is narrow; `head` are cells, `rows` whole rows."""
    named = f' class="{kind}"' if kind else ""
    above = f"<caption>{caption}</caption>" if caption else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table{named}>{above}'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def data_uri(image: Image.Image, *, quality: int = 85, optimize: bool = False) -> str:
    """The image, as a JPEG, as an address that holds it whole."""
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=quality, optimize=optimize)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
