"""Reading the body of a request within bounds: its bytes, those of all requests together, and time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

from e2vpt.serving.refusals import Refused


class Bodies:
    """What all requests hold in memory at once, at most `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes held now."""
        return self._held

    @asynccontextmanager
    async def read(self, request: Request, most: int, deadline: float) -> AsyncIterator[bytes]:
        """The body of a request; it counts until the end of the block.

        Raises:
            Refused: 400, the client left; 408, it came too slowly; 413, longer than `most` bytes; 415, it is
                compressed; 429, other requests hold too much.
        """
        encoding = request.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise Refused(415, "The body has a Content-Encoding. Send it without compression.")
        announced = request.headers.get("content-length", "0")
        if announced.isdecimal() and int(announced[:20]) > most:
            raise _too_long(most)
        taken = 0

        async def received() -> bytes:
            nonlocal taken
            parts = []
            async for part in request.stream():
                taken += len(part)
                self._held += len(part)
                if taken > most:
                    raise _too_long(most)
                if self._held > self._limit:
                    raise Refused(429, "Other requests fill the memory for bodies.", Retry_After="1")
                parts.append(part)
            return b"".join(parts)

        try:
            try:
                async with asyncio.timeout_at(deadline):
                    body = await received()
            except TimeoutError as error:
                raise Refused(408, "The body did not arrive within the deadline.") from error
            except ClientDisconnect as error:
                raise Refused(400, "The client left before the end of its request.") from error
            yield body
        finally:
            self._held -= taken


def _too_long(most: int) -> Refused:
    return Refused(
        413,
        f"The body has more than {most:,} bytes, the most read here. Send fewer or smaller files.",
    )
