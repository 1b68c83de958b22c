"""Places in the header of an adapter file, listed, read and set; JSON text with what JSON would not write."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from scripts.mutate.tensor_mutations import Header

RAW = "\ue000raw:"
"""A text that starts so is written into the JSON without quotes; a name that starts so, without the mark."""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def put(header: Header, path: tuple[Any, ...], value: Any) -> str:
    place: Any = header
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    shown = ascii(value)
    return f"{'.'.join(map(str, path))} = {shown if len(shown) < 60 else shown[:60] + '...'}"


def get(header: Header, path: tuple[Any, ...]) -> Any:
    place: Any = header
    for key in path:
        place = place[key]
    return place


def dumped(header: Header) -> str:
    """The header as JSON text, marked values and names raw."""
    text = json.dumps(header)
    mark = json.dumps(RAW)[1:-1]
    parts = text.split('"' + mark)
    made = parts[0]
    for part in parts[1:]:
        end = _end(part)
        raw = json.loads('"' + part[:end] + '"')
        # A name stays a name: only its mark goes.
        made += (json.dumps(raw) if part[end + 1 :].startswith(":") else raw) + part[end + 1 :]
    return made


def _end(text: str) -> int:
    """Where the JSON text ends that begins before `text`."""
    at = 0
    while text[at] != '"':
        at += 2 if text[at] == "\\" else 1
    return at
