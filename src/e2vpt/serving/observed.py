"""What is recorded of every request: a line of JSON in the log, numbers for Prometheus; never its content."""

from __future__ import annotations

import logging
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from e2vpt.errors import visible
from e2vpt.serving.logs import LOGGER
from e2vpt.serving.metrics import ServerMetrics

ASKED_TASKS = "e2vpt.tasks"
"""Where a route notes in the scope which tasks, all of them existing, a request asked for."""
_LONGEST = 200


class Observed:
    """An application whose requests are logged and counted."""

    def __init__(self, app: ASGIApp, metrics: ServerMetrics) -> None:
        self._app = app
        self._metrics = metrics
        self._log = logging.getLogger(LOGGER)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            seconds = time.perf_counter() - start
            tasks = scope.get(ASKED_TASKS, [])
            self._metrics.on_request(tasks, status, seconds)
            self._log.info("request", extra={"fields": _fields(scope, status, seconds, tasks)})


def _fields(scope: Scope, status: int, seconds: float, tasks: list[str]) -> dict[str, Any]:
    client = scope.get("client")
    return {
        "method": scope["method"],
        "path": visible(scope["path"])[:_LONGEST],
        "status": status,
        "ms": round(1000 * seconds, 2),
        "client": client[0] if client else "",
        **({"tasks": list(dict.fromkeys(tasks))} if tasks else {}),
    }
