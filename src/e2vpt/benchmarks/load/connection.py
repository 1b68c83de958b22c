"""As little of HTTP as a load generator needs: a client that does more measures itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """Status and body."""

    code: int
    body: bytes


class HttpConnection:
    """A connection that is kept alive, for one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def opened(cls, host: str, port: int) -> HttpConnection:
        """A new connection.

        Raises:
            OSError: nobody listens there.
        """
        return cls(*await asyncio.open_connection(host, port))

    async def send(self, request: bytes) -> HttpAnswer:
        """Write a whole request, and read its answer, which has to say how long it is."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        lengths = [int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length")]
        body = await self._reader.readexactly(lengths[0] if lengths else 0)
        return HttpAnswer(int(lines[0].split()[1]), body)

    def close(self) -> None:
        """Close it."""
        self._writer.close()


def http_request(method: str, path: str, body: bytes = b"", headers: tuple[str, ...] = ()) -> bytes:
    """The bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: load", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body
