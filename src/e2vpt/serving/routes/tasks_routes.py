"""The server's own routes: predict, list tasks, upload and delete them, metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from e2vpt.serving.catalogue import KnownTask
from e2vpt.serving.routes.documented import (
    ADAPTER_BODY,
    METRICS_OK,
    NAME,
    OF_BODIES,
    PREDICT_BODY,
    PREDICT_OK,
    TASK_EXAMPLE,
    answers,
    ok,
)
from e2vpt.serving.routes.predictions import parse_form, parse_predict, prediction_rows
from e2vpt.serving.routes.requests import Gate, note_tasks
from e2vpt.serving.wire.forms import is_form
from e2vpt.serving.wire.json_body import json_response


def own_routes(gate: Gate) -> APIRouter:
    """Everything below /v1, and /metrics."""
    router = APIRouter(tags=["e2vpt"], default_response_class=Response)
    may_ask, may_change = [Depends(gate.check_predict)], [Depends(gate.check_admin)]
    service, catalogue = gate.service, gate.service.catalogue

    @router.post(
        "/v1/predict",
        dependencies=may_ask,
        openapi_extra=PREDICT_BODY,
        responses=PREDICT_OK | answers(*OF_BODIES, 401, 404, 422, 503, 504),
    )
    async def predict(request: Request) -> Response:
        deadline, most = gate.deadline(), service.limits.most_images
        kind = request.headers.get("content-type", "")
        async with gate.body(request, deadline) as body:
            asked = await service.in_thread(
                lambda: parse_form(body, kind, most) if is_form(kind) else parse_predict(body, most)
            )
            for image in asked.images:
                service.check_loaded(image.task)
            note_tasks(request, [image.task for image in asked.images])
            found = await service.answer(asked.images, deadline)
        return json_response({"predictions": prediction_rows(asked, found)})

    @router.get(
        "/v1/tasks", dependencies=may_ask, responses=ok("Tasks", {"tasks": [TASK_EXAMPLE]}) | answers(401)
    )
    async def list_tasks() -> Response:
        return json_response(
            {"tasks": [described_task(name, known) for name, known in catalogue.known.items()]}
        )

    @router.put(
        "/v1/tasks/{name}",
        dependencies=may_change,
        openapi_extra=ADAPTER_BODY,
        responses=ok("The task, replaced", TASK_EXAMPLE)
        | {201: {"description": "The task, new", "content": {"application/json": {}}}}
        | answers(*OF_BODIES, 401, 403, 422, 507),
    )
    async def put_task(name: NAME, request: Request) -> Response:
        async with gate.body(request, gate.deadline(), service.limits.max_adapter) as body:
            is_new = await service.change(lambda: catalogue.put(name, body))
        note_tasks(request, [name])
        return json_response(described_task(name, catalogue.get(name)), 201 if is_new else 200)

    @router.delete(
        "/v1/tasks/{name}",
        dependencies=may_change,
        status_code=204,
        responses=answers(401, 403, 404, 507),
    )
    async def delete_task(name: NAME) -> Response:
        await service.change(lambda: catalogue.delete(name))
        return Response(status_code=204)

    @router.get("/metrics", dependencies=may_ask, responses=METRICS_OK | answers(401))
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router


def described_task(name: str, known: KnownTask) -> dict[str, Any]:
    """A task, for a client."""
    info = known.info
    if info is None:
        return {"name": name, "ready": False, "reason": known.reason, "uploaded": known.is_uploaded}
    return {
        "name": name,
        "ready": True,
        "uploaded": known.is_uploaded,
        "method": info.method,
        "classes": list(info.classes),
        "image_size": list(info.preprocessing.image_size),
        "num_tuned": info.num_tuned,
        "num_head": info.num_head,
        "bytes": info.bytes,
    }
