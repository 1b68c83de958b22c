"""Pages that are one file: style, script and pictures inside, nothing asked of a network."""

from __future__ import annotations

import html
import json
from importlib.resources import files
from typing import Any

import e2vpt
from e2vpt.errors import visible

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
"""


def marked_up(text: str) -> str:
    """A name of a file, a class or a run, safe to stand anywhere in a page."""
    return html.escape(visible(text))


def one_file_page(title: str, body: str, *, script: str = "", data: Any = None) -> bytes:
    """A whole page. `script` names a file of this package, which finds `data` as JSON in #data."""
    page = _HEAD.format(title=marked_up(title), style=_asset("explain.css")) + body
    made = f"Made by e2vpt {e2vpt.__version__}. Everything is in this file; no network is needed."
    page += f"<footer><p>{made}</p></footer>\n"
    if script:
        # Inside a script element nothing is escaped; "</" alone would end it.
        values = json.dumps(data, ensure_ascii=True).replace("<", "\\u003c")
        page += f'<script id="data" type="application/json">{values}</script>\n'
        page += f"<script>\n{_asset(script)}</script>\n"
    return (page + "</body>\n</html>\n").encode()


def _asset(name: str) -> str:
    return (files("e2vpt.insight") / "page" / name).read_text(encoding="utf-8")
