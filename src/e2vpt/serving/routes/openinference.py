"""The routes of the Open Inference Protocol, version 2; a task is a model. And Triton's model repository.

Sources: https://github.com/kserve/open-inference-protocol; Triton's extension model_repository.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

import e2vpt
from e2vpt.adapters.info import AdapterInfo
from e2vpt.serving.images import AskedImage
from e2vpt.serving.refusals import Refused
from e2vpt.serving.routes.documented import INFER_BODY, INFER_OK, NAME, NOTHING_OK, OF_BODIES, answers, ok
from e2vpt.serving.routes.infer import INPUT, OUTPUTS, infer_answer, parse_infer
from e2vpt.serving.routes.requests import Gate, note_tasks
from e2vpt.serving.wire.binary import LENGTH_HEADER
from e2vpt.serving.wire.json_body import check_fields, field, json_response, parse_object

_EXTENSIONS = ("binary_tensor_data", "classification", "model_repository")


def openinference_routes(gate: Gate) -> APIRouter:
    """Health, metadata, inference, repository."""
    router = APIRouter(tags=["Open Inference Protocol v2"], default_response_class=Response)
    may_ask, may_change = [Depends(gate.check_predict)], [Depends(gate.check_admin)]
    service, catalogue = gate.service, gate.service.catalogue

    @router.get("/v2", responses=ok("The server", {"name": "e2vpt", "version": e2vpt.__version__}))
    async def server_metadata() -> Response:
        return json_response({"name": "e2vpt", "version": e2vpt.__version__, "extensions": list(_EXTENSIONS)})

    @router.get("/v2/health/live", responses=NOTHING_OK)
    async def live() -> Response:
        return Response()

    @router.get("/v2/health/ready", responses=NOTHING_OK)
    async def ready() -> Response:
        return Response()

    @router.get("/v2/models/{name}", dependencies=may_ask, responses=ok("A task") | answers(401, 404))
    async def model_metadata(name: NAME, request: Request) -> Response:
        info = service.check_loaded(name)
        note_tasks(request, [name])
        return json_response(_metadata(name, info))

    @router.get("/v2/models/{name}/ready", dependencies=may_ask, responses=NOTHING_OK | answers(401, 404))
    async def model_ready(name: NAME, request: Request) -> Response:
        service.check_loaded(name)
        note_tasks(request, [name])
        return Response()

    @router.post(
        "/v2/models/{name}/infer",
        dependencies=may_ask,
        openapi_extra=INFER_BODY,
        responses=INFER_OK | answers(*OF_BODIES, 401, 404, 422, 503, 504),
    )
    async def infer(name: NAME, request: Request) -> Response:
        deadline = gate.deadline()
        service.check_loaded(name)
        note_tasks(request, [name])
        async with gate.body(request, deadline) as body:
            length, most = request.headers.get(LENGTH_HEADER), service.limits.most_images
            asked = await service.in_thread(lambda: parse_infer(body, length, most))
            if asked.timeout is not None:
                deadline = min(deadline, asyncio.get_running_loop().time() + asked.timeout)
            images = [
                AskedImage(name=f"images[{index}]", task=name, data=data)
                for index, data in enumerate(asked.images)
            ]
            found = await service.answer(images, deadline)
        content, json_length = infer_answer(name, asked, found)
        if json_length is None:
            return Response(content, media_type="application/json")
        headers = {LENGTH_HEADER: str(json_length)}
        return Response(content, headers=headers, media_type="application/octet-stream")

    @router.post(
        "/v2/repository/index", dependencies=may_ask, responses=ok("Tasks") | answers(*OF_BODIES, 401)
    )
    async def repository_index(request: Request) -> Response:
        async with gate.body(request, gate.deadline()) as body:
            asked = parse_object(body or b"{}")
        check_fields(asked, ("ready",), "The request")
        only_ready = field(asked, "ready", bool, False)
        return json_response(
            [
                {
                    "name": name,
                    "version": "1",
                    "state": "READY" if known.info else "UNAVAILABLE",
                    "reason": known.reason,
                }
                for name, known in catalogue.known.items()
                if known.info or not only_ready
            ]
        )

    changes = answers(*OF_BODIES, 401, 403, 404, 422)

    @router.post("/v2/repository/models/{name}/load", dependencies=may_change, responses=NOTHING_OK | changes)
    async def load(name: NAME, request: Request) -> Response:
        await _check_no_parameters(gate, request)
        await service.change(lambda: catalogue.load(name))
        return Response()

    @router.post(
        "/v2/repository/models/{name}/unload", dependencies=may_change, responses=NOTHING_OK | changes
    )
    async def unload(name: NAME, request: Request) -> Response:
        await _check_no_parameters(gate, request)
        await service.change(lambda: catalogue.unload(name))
        return Response()

    return router


async def _check_no_parameters(gate: Gate, request: Request) -> None:
    """Triton's other parameters would bring a model's files or configuration along."""
    async with gate.body(request, gate.deadline()) as body:
        asked = parse_object(body or b"{}")
    parameters = field(asked, "parameters", dict, {})
    given = sorted(set(parameters) - {"unload_dependents"})
    if given:
        raise Refused(
            400,
            f"parameters.{ascii(given[0])[1:60]} has no meaning here. PUT /v1/tasks/NAME uploads an adapter.",
        )


def _metadata(name: str, info: AdapterInfo) -> dict[str, Any]:
    return {
        "name": name,
        "versions": ["1"],
        "platform": "e2vpt",
        "inputs": [{"name": INPUT, "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": output, "datatype": "FP32", "shape": [-1, len(info.classes)]} for output in OUTPUTS
        ],
    }
