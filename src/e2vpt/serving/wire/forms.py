"""A form's parts (multipart/form-data), of a body that is in memory already.

Starlette's own reader writes files to disk, and takes a form that was cut off for a whole one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from e2vpt.serving.refusals import Refused

_LONGEST_HEADER = 2000


@dataclass(slots=True)
class FormPart:
    """One part of a form.

    Attributes:
        name: of the field.
        file: the file's name, "" where it has none; None for a part that is no file.
        data: its content.
    """

    name: str = ""
    file: str | None = None
    data: bytearray = field(default_factory=bytearray)


def is_form(content_type: str) -> bool:
    """Whether a body of this type is a form with parts."""
    return parse_options_header(content_type)[0] == b"multipart/form-data"


def parse_parts(body: bytes, content_type: str, most_parts: int) -> list[FormPart]:
    """The parts of a form, in order.

    Raises:
        Refused: 400, it is none, was cut off, or has more parts.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    reader = _Reader(most_parts)
    try:
        parser = MultipartParser(boundary, reader.callbacks())  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Refused(400, f"The form cannot be read: {str(error)[:200]}.") from error
    if not reader.is_whole:
        raise Refused(400, "The form does not end with its boundary; it was cut off.")
    return reader.parts


class _Reader:
    """Gathers what the parser calls out."""

    def __init__(self, most_parts: int) -> None:
        self.parts: list[FormPart] = []
        self.is_whole = False
        self._most_parts = most_parts
        self._header, self._value = bytearray(), bytearray()

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._begin,
            "on_part_data": self._add,
            "on_header_field": lambda data, start, end: self._grow(self._header, data[start:end]),
            "on_header_value": lambda data, start, end: self._grow(self._value, data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._check_name,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) == self._most_parts:
            raise Refused(400, f"The form has more than {self._most_parts} parts.")
        self.parts.append(FormPart())

    def _grow(self, text: bytearray, more: bytes) -> None:
        text += more
        if len(text) > _LONGEST_HEADER:
            raise Refused(400, f"A part's header has more than {_LONGEST_HEADER} bytes.")

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            options = parse_options_header(bytes(self._value))[1]
            part = self.parts[-1]
            part.name = options.get(b"name", b"").decode(errors="replace")
            part.file = options[b"filename"].decode(errors="replace") if b"filename" in options else None
        self._header.clear()
        self._value.clear()

    def _check_name(self) -> None:
        if not self.parts[-1].name:
            raise Refused(400, f"Part {len(self.parts) - 1} of the form has no name in Content-Disposition.")

    def _add(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].data += memoryview(data)[start:end]

    def _end(self) -> None:
        self.is_whole = True
