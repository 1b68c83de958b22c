"""Requests that are built byte by byte, and what a refusal has to look like."""

from __future__ import annotations

import json
from typing import Any

import httpx
from support.serving_for_tests import ADMIN, encoded_image

PNG = encoded_image(0)
INFER, PREDICT = "/v2/models/task0/infer", "/v1/predict"


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """Status and reason; the reason names nothing of the server's inside."""
    body = answer.json()
    assert list(body) == ["error"], body
    assert body["error"]
    for secret in ("Traceback", ".py", "site-packages", ADMIN, "/tmp"):
        assert secret not in body["error"]
    return answer.status_code, body["error"]


def binary_request(tail: bytes, *, shape: Any = (1,), size: Any = None) -> tuple[bytes, dict[str, str]]:
    """Body and headers of one tensor whose bytes, rightly described or not, follow the JSON."""
    parameters = {"binary_data_size": len(tail) if size is None else size}
    tensor = {"name": "images", "shape": shape, "datatype": "BYTES", "parameters": parameters}
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + tail, {"Inference-Header-Content-Length": str(len(head))}
