"""JSON of strangers: bounded before it is parsed, its fields checked one by one; and JSON for them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection, Mapping
from typing import Any

from starlette.responses import Response

from e2vpt.serving.refusals import Refused

_MOST_VALUES = 20_000
"""Of one body. Two bytes of JSON can become a hundred as objects; an image is one long string."""


def parse_object(body: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        Refused: 400, the body is none, or holds too many values.
    """
    values = sum(map(body.count, (b",", b"[", b"{")))
    if values > _MOST_VALUES:
        raise Refused(400, f"The JSON has about {values} values; at most {_MOST_VALUES}.")
    try:
        found = json.loads(body.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"The body is not JSON: {str(error)[:200]}.") from error
    if not isinstance(found, dict):
        raise Refused(400, f"The body is a JSON {type(found).__name__}; expected an object.")
    return found


def field(value: Mapping[str, Any], name: str, kind: type, default: Any, where: str = "") -> Any:
    """A field of an object, held to its type; a whole number is no bool.

    Raises:
        Refused: 400, it is of another type.
    """
    found = value.get(name, default)
    if found is default:
        return found
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        path = f"{where}.{name}" if where else name
        raise Refused(400, f"{path} is of type {type(found).__name__}; expected {kind.__name__}.")
    if isinstance(found, str) and any("\ud800" <= letter <= "\udfff" for letter in found):
        raise Refused(400, f"{name} holds half of a surrogate pair, which is no character.")
    return found


def check_fields(value: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Refuse fields that would be ignored.

    Raises:
        Refused: 400, naming the first.
    """
    unknown = sorted(set(value) - set(known))
    if unknown:
        shown = ascii(unknown[0])[:100]
        raise Refused(400, f"{where} has no field {shown}; expected some of {', '.join(known)}.")


def from_base64(text: str, where: str) -> bytes:
    """The bytes that a text stands for.

    Raises:
        Refused: 400, it is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(400, f"{where} is not base64 of an image file: {str(error)[:100]}.") from error


def json_response(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON in ASCII, so that every name of a class or file can be said."""
    return Response(dumped(content), status, headers, media_type="application/json")


def dumped(content: object) -> bytes:
    """JSON in ASCII."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")
