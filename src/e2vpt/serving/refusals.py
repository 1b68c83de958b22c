"""Why a request is not answered: an HTTP status and words for the client."""

from __future__ import annotations


class Refused(Exception):
    """A request that gets another status than 200; the only exception whose text a client sees.

    Attributes:
        status: of HTTP, 4xx or 5xx.
        reason: what was found and what to do.
        headers: of the answer.
    """

    def __init__(self, status: int, reason: str, **headers: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
