"""The page at `/`: three files of this package, which load nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import Response

_FOLDER = Path(__file__).parent / "page"
_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_HEADERS = {
    # Class names come from adapter files: whatever stands in them, no script but ours runs.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def page_routes() -> APIRouter:
    """The page and what belongs to it. It says nothing of the tasks: it asks, as any client, with a token."""
    router = APIRouter(include_in_schema=False)
    files = {name: (_FOLDER / name).read_bytes() for name in _TYPES}

    def add(path: str, name: str) -> None:
        @router.get(path)
        async def page_file() -> Response:
            return Response(files[name], media_type=_TYPES[name], headers=_HEADERS)

    add("/", "index.html")
    for name in list(_TYPES)[1:]:
        add(f"/page/{name}", name)
    return router
