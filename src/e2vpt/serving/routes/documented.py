"""What the OpenAPI document says of bodies and answers, with examples."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path

NAME = Annotated[str, Path(description="A task's name.", examples=["pets"])]

Answers = dict[int | str, dict[str, Any]]

_REASONS = {
    400: "Malformed; the reason says where.",
    401: "Another token, or none.",
    403: "This server lets nobody change tasks.",
    404: "No such task, or it is not loaded.",
    408: "The body came too slowly.",
    413: "The body is too long.",
    415: "The body is compressed.",
    422: "An image or adapter cannot be used.",
    429: "Too much to do; Retry-After says when to try again.",
    503: "The server stops, or the task's file has changed.",
    507: "The store cannot be written to.",
    504: "Not answered within the deadline.",
}
OF_BODIES = (400, 408, 413, 415, 429)
"""Refusals of every route that reads a body."""
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}},
    "example": {"error": "There is no task 'cars'. GET /v1/tasks lists them."},
}
_BASE64 = {"type": "string", "format": "byte", "description": "An image file in base64."}


def answers(*codes: int) -> Answers:
    """Refusals that a route may give."""
    return {code: {"description": _REASONS[code], **_json(_ERROR)} for code in codes}


def ok(description: str, example: Any = None) -> Answers:
    """A 200 in JSON."""
    schema = {} if example is None else {"example": example}
    return {200: {"description": description, **_json(schema)}}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


NOTHING_OK: Answers = {200: {"description": "Yes; the body is empty."}}
METRICS_OK: Answers = {200: {"description": "Prometheus' text format", "content": {"text/plain": {}}}}

TASK_EXAMPLE = {
    "name": "pets",
    "ready": True,
    "uploaded": False,
    "method": "e2vpt",
    "classes": ["cat", "dog"],
    "image_size": [224, 224],
    "num_tuned": 50000,
    "num_head": 1538,
    "bytes": 210000,
}

_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype"],
    "properties": {
        "name": {"type": "string", "enum": ["images"]},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 2},
        "datatype": {"type": "string", "enum": ["BYTES"]},
        "data": {"type": "array", "items": _BASE64},
        "parameters": {"type": "object"},
    },
}
_OUTPUT = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "enum": ["logits", "scores"]},
        "parameters": {
            "type": "object",
            "properties": {
                "classification": {"type": "integer", "minimum": 0},
                "binary_data": {"type": "boolean"},
            },
        },
    },
}
_INFER = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "inputs": {"type": "array", "items": _TENSOR, "minItems": 1, "maxItems": 1},
        "outputs": {"type": "array", "items": _OUTPUT},
    },
    "example": {
        "inputs": [{"name": "images", "shape": [1], "datatype": "BYTES", "data": ["/9j/4AAQSkZJRg..."]}],
        "outputs": [{"name": "scores", "parameters": {"classification": 3}}],
    },
}
INFER_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _INFER},
            "application/octet-stream": {
                "schema": {
                    "type": "string",
                    "format": "binary",
                    "description": "JSON of Inference-Header-Content-Length bytes, then the tensor.",
                }
            },
        },
    }
}
INFER_OK = ok(
    "Tensors, in JSON or as the binary extension has them",
    {
        "model_name": "pets",
        "model_version": "1",
        "outputs": [
            {
                "name": "scores",
                "datatype": "BYTES",
                "shape": [1, 2],
                "data": ["0.900000:0:cat", "0.100000:1:dog"],
            }
        ],
    },
)

_PREDICT = {
    "type": "object",
    "required": ["images"],
    "properties": {
        "task": {"type": "string", "description": "Of the images that name none."},
        "topk": {"type": "integer", "minimum": 1, "default": 1},
        "images": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["data"],
                "properties": {"data": _BASE64, "task": {"type": "string"}, "name": {"type": "string"}},
            },
        },
    },
    "example": {"task": "pets", "topk": 2, "images": [{"data": "/9j/4AAQSkZJRg...", "name": "a.jpg"}]},
}
_FORM = {
    "type": "object",
    "required": ["images", "task"],
    "properties": {
        "images": {"type": "array", "items": {"type": "string", "format": "binary"}},
        "task": {"type": "array", "items": {"type": "string"}, "description": "One, or one for each image."},
        "topk": {"type": "integer", "minimum": 1, "default": 1},
    },
}
PREDICT_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": _PREDICT}, "multipart/form-data": {"schema": _FORM}},
    }
}
PREDICT_OK = ok(
    "An object for each image, in order",
    {"predictions": [{"file": "a.jpg", "task": "pets", "classes": ["cat", "dog"], "scores": [0.9, 0.1]}]},
)
ADAPTER_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {
                "schema": {
                    "type": "string",
                    "format": "binary",
                    "description": "adapter.safetensors of a run.",
                }
            }
        },
    }
}
