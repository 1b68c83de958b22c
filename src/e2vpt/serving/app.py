"""The application: routes, errors, and what happens when it starts and stops."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from e2vpt.errors import needs

with needs("serve", "Serving needs FastAPI and uvicorn"):
    import prometheus_client  # noqa: F401
    import python_multipart  # noqa: F401
    import uvicorn  # noqa: F401
    from fastapi import FastAPI
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import Response

import e2vpt
from e2vpt.serving.logs import LOGGER
from e2vpt.serving.observed import Observed
from e2vpt.serving.refusals import Refused
from e2vpt.serving.routes.openinference import openinference_routes
from e2vpt.serving.routes.page_routes import page_routes
from e2vpt.serving.routes.requests import Gate
from e2vpt.serving.routes.tasks_routes import own_routes
from e2vpt.serving.service import Service
from e2vpt.serving.tokens import Tokens
from e2vpt.serving.wire.json_body import json_response


def create_app(service: Service, tokens: Tokens) -> FastAPI:
    """An ASGI application that answers for a service; it starts and closes the service itself."""

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.close()

    app = FastAPI(
        title="e2vpt",
        version=e2vpt.__version__,
        summary="Many image tasks on one frozen vision transformer.",
        lifespan=running,
        docs_url=None,  # Their pages load scripts from elsewhere.
        redoc_url=None,
    )
    gate = Gate(service, tokens)
    app.include_router(openinference_routes(gate))
    app.include_router(own_routes(gate))
    app.include_router(page_routes())
    app.add_exception_handler(Refused, _on_refused)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_error)
    app.add_middleware(Observed, metrics=service.metrics)
    return app


async def _on_refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return json_response({"error": error.reason}, error.status, error.headers)


async def _on_http(_: Request, error: Exception) -> Response:
    """No such route, or another method."""
    assert isinstance(error, HTTPException)
    return json_response({"error": str(error.detail)}, error.status_code, error.headers)


async def _on_error(_: Request, error: Exception) -> Response:
    """A mistake of ours: its trace is for the log, not for the client."""
    logging.getLogger(LOGGER).error("error", exc_info=error)
    return json_response({"error": "The server made a mistake; its log says more."}, 500)
