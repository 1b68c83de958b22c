"""Forms as clients write them, and as none should."""

from __future__ import annotations

import httpx
import pytest

from e2vpt.serving.refusals import Refused
from e2vpt.serving.wire.forms import is_form, parse_parts

KIND = "multipart/form-data; boundary=b"


def test_a_form_of_a_client_is_read_back() -> None:
    data = bytes(range(256)) * 9 + b"\r\n--b"
    files = [("images", ("ä.png", data)), ("images", ("b", b""))]
    request = httpx.Request("POST", "http://x", files=files, data={"task": ["ö", "y"]})
    kind = request.headers["content-type"]
    assert is_form(kind)
    parts = parse_parts(request.read(), kind, 4)
    assert [(part.name, part.file, bytes(part.data)) for part in parts] == [
        ("task", None, "ö".encode()),
        ("task", None, b"y"),
        ("images", "ä.png", data),
        ("images", "b", b""),
    ]
    with pytest.raises(Refused, match="more than 3 parts"):
        parse_parts(request.read(), kind, 3)


@pytest.mark.parametrize("kind", ["", "application/json", "multipart/mixed; boundary=b", "\xff"])
def test_other_kinds_are_none(kind: str) -> None:
    assert not is_form(kind)


PART = b'--b\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\nabc'


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "cut off"),
        (PART, "cut off"),
        (PART + b"\r\n--b", "cut off"),
        (PART + b"--b--", "cut off"),
        (PART + b"\r\n--b\r\n", "cut off"),
        (b"--b\r\n\r\nabc\r\n--b--", "no name"),
        (b"--b\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--b--", "no name"),
        (b"--b\r\n" + b"x" * 3000 + b": y\r\n\r\nabc\r\n--b--", "more than 2000 bytes"),
        (b"--b\r\nx: " + b"y" * 3000 + b"\r\n\r\nabc\r\n--b--", "more than 2000 bytes"),
        (b"abc", "cannot be read"),
    ],
)
def test_damaged_forms(body: bytes, reason: str) -> None:
    with pytest.raises(Refused, match=reason) as refused:
        parse_parts(body, KIND, 9)
    assert refused.value.status == 400
