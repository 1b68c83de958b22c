"""What every route needs of a request: its deadline, its body within bounds, the right to ask."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from starlette.requests import Request

from e2vpt.serving.observed import ASKED_TASKS
from e2vpt.serving.service import Service
from e2vpt.serving.tokens import Tokens
from e2vpt.serving.wire.bodies import Bodies


class Gate:
    """What stands between HTTP and a service.

    Attributes:
        service: what answers.
    """

    def __init__(self, service: Service, tokens: Tokens) -> None:
        self.service = service
        self._tokens = tokens
        self._bodies = Bodies(service.limits.bodies)

    async def check_predict(self, request: Request) -> None:
        """Let a client ask.

        Raises:
            Refused: 401.
        """
        self._tokens.check_predict(request.headers.get("authorization"))

    async def check_admin(self, request: Request) -> None:
        """Let a client change tasks.

        Raises:
            Refused: 401, 403.
        """
        self._tokens.check_admin(request.headers.get("authorization"))

    def deadline(self) -> float:
        """When a request that begins now has to be answered, in the event loop's time."""
        return asyncio.get_running_loop().time() + self.service.limits.deadline

    def body(
        self, request: Request, deadline: float, most: int | None = None
    ) -> AbstractAsyncContextManager[bytes]:
        """See `Bodies.read`; at most `limits.max_body` bytes where nothing else is said."""
        return self._bodies.read(request, most or self.service.limits.max_body, deadline)


def note_tasks(request: Request, names: Sequence[str]) -> None:
    """Tell log and metrics which tasks, all of them existing, a request asks for."""
    request.scope[ASKED_TASKS] = list(names)
