"""Serving an application until a signal ends it: every request accepted before is answered."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from e2vpt.errors import ConfigError
from e2vpt.serving.limits import Limits

_GRACE = 5.0
"""Seconds beyond the deadline, after which no request can be left."""


def open_socket(host: str, port: int) -> socket.socket:
    """A socket bound to an address; port 0 for any that is free.

    Raises:
        ConfigError: it cannot be.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"Cannot listen on {host}:{port}: {reason}. Give another --host or --port."
        ) from error
    return bound


def is_loopback(bound: socket.socket) -> bool:
    """Whether only programs on this machine reach a socket."""
    address = str(bound.getsockname()[0])
    return address.startswith("127.") or address == "::1"


def serve(app: ASGIApp, bound: socket.socket, limits: Limits, on_ready: Callable[[], None]) -> None:
    """Answer until SIGINT or SIGTERM; then accept nothing more, finish what was accepted, and return."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        limit_concurrency=limits.connections + 1,  # uvicorn counts the one that asks
        timeout_graceful_shutdown=round(limits.deadline + _GRACE),
    )
    server = _Server(config)
    server.on_ready = on_ready
    # uvicorn raises the signal again when it is done, for whoever was there before: nobody.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _nothing)
    server.run(sockets=[bound])


class _Server(uvicorn.Server):
    on_ready: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.on_ready()


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """A signal that was dealt with."""
