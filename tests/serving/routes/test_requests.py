"""Hostile requests: each gets a 4xx with a reason, and the server goes on."""

from __future__ import annotations

import base64
import json
import random
import struct
from typing import Any

import httpx
import pytest
from support.requests_for_tests import INFER, PNG, PREDICT, binary_request, refusal
from support.serving_for_tests import ADMIN, AS_ADMIN, RunningServer


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "a JSON list"),
        (b"null", "a JSON NoneType"),
        (b"\xff\xfe", "not JSON"),
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"[" * 15_000, "not JSON"),
        (b"[" * 30_000, "about 30000 values"),
        (b'{"inputs": [' + b"{}," * 200_000 + b"{}]}", "values; at most"),
        (b'{"\\ud800": 1}', "no field"),
        (b'{"images": 1}', "of type int; expected list"),
    ],
)
def test_malformed_json(server: RunningServer, body: bytes, reason: str) -> None:
    with server.client() as client:
        for path in (INFER, PREDICT):
            status, found = refusal(client.post(path, content=body))
            assert status == 400
            assert reason in found or "no field" in found or "expected one tensor" in found
    assert server.alive


@pytest.mark.parametrize("length", ["", "-1", "x", "99999999", "9" * 5000, "1e2", "٣", "0", "5"])
def test_headers_that_are_no_length_of_the_json(server: RunningServer, length: str) -> None:
    body = json.dumps({"inputs": []}).encode() + b"\0" * 8
    headers = {b"inference-header-content-length": length.encode()}
    with server.client() as client:
        status, _ = refusal(client.post(INFER, content=body, headers=headers))  # type: ignore[arg-type]
    assert status == 400
    assert server.alive


@pytest.mark.parametrize(
    ("tail", "options", "reason"),
    [
        (b"\0\0", {}, "ends inside the length"),
        (struct.pack("<I", 2**32 - 1) + PNG, {}, "has 4294967295 bytes"),
        (struct.pack("<I", 4) + b"abc", {}, "has 4 bytes"),
        (struct.pack("<I", 1) + b"abc", {}, "1 elements in 5 of 7 bytes"),
        (b"", {}, "0 elements"),
        (struct.pack("<I", len(PNG)) + PNG, {"shape": [2]}, "1 elements"),
        (struct.pack("<I", len(PNG)) + PNG, {"shape": [-1]}, "expected [n]"),
        (struct.pack("<I", len(PNG)) + PNG, {"shape": [2**70]}, "expected [n]"),
        (struct.pack("<I", len(PNG)) + PNG, {"shape": [1, 2]}, "expected [n]"),
        (struct.pack("<I", len(PNG)) + PNG, {"size": 7}, "binary_data_size is 7"),
        (struct.pack("<I", len(PNG)) + PNG, {"size": "7"}, "of type str"),
        (struct.pack("<I", len(PNG)) + PNG, {"size": True}, "of type bool"),
    ],
)
def test_malformed_binary_tensors(
    server: RunningServer, tail: bytes, options: dict[str, Any], reason: str
) -> None:
    body, headers = binary_request(tail, **options)
    with server.client() as client:
        status, found = refusal(client.post(INFER, content=body, headers=headers))
    assert (status, reason in found) == (400, True), found
    assert server.alive


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=", b"x"),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"--b\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\nx\r\n--b--',
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\nx\r\n--b--',
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="task"\r\n\r\n' + b"x" * 5000 + b"\r\n--b--",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="task"\r\n\r\nx' * 999,
        ),
        ("application/x-www-form-urlencoded", b"task=task0"),
        ("\xff", b"{}"),
    ],
)
def test_malformed_forms(server: RunningServer, content_type: str, body: bytes) -> None:
    with server.client() as client:
        headers = {b"content-type": content_type.encode("latin-1")}
        answer = client.post(PREDICT, content=body, headers=headers)  # type: ignore[arg-type]
    assert refusal(answer)[0] == 400
    assert server.alive


@pytest.mark.parametrize(
    "name",
    [
        "%2e%2e",
        "..%5ctask0",
        "..%2ftask0",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "task0%00",
        "a%0ab",
        "x" * 3000,
        "%ff",
    ],
)
def test_names_that_are_paths_or_none(server: RunningServer, name: str) -> None:
    with server.client(AS_ADMIN) as client:
        answers = [
            client.get(f"/v2/models/{name}"),
            client.post(f"/v2/models/{name}/infer", content=b"{}"),
            client.post(f"/v2/repository/models/{name}/load"),
            client.put(f"/v1/tasks/{name}", content=b"x"),
            client.delete(f"/v1/tasks/{name}"),
        ]
    statuses = [refusal(answer)[0] for answer in answers]
    assert set(statuses) <= {400, 404, 405, 422}, statuses
    assert {path.suffix for path in server.service.catalogue._store._folder.iterdir()} <= {".json"}  # type: ignore[union-attr]
    assert server.alive


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer x", "Basic " + ADMIN, "Bearer " + ADMIN + "x", "Bearer \xe4" * 9, ADMIN],
)
def test_bad_tokens(server: RunningServer, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    with server.client({}) as client:
        for method, path in [
            *(
                ("GET", path)
                for path in ("/v1/tasks", "/metrics", "/v2/models/task0", "/v2/models/task0/ready")
            ),
            *(("POST", path) for path in (INFER, PREDICT, "/v2/repository/index")),
            *(("POST", f"/v2/repository/models/task0/{change}") for change in ("load", "unload")),
            *((method, "/v1/tasks/task0") for method in ("PUT", "DELETE")),
        ]:
            answer = client.request(method, path, headers=headers)  # type: ignore[arg-type]
            assert refusal(answer)[0] == 401, path
            assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert server.alive


def test_random_damage(server: RunningServer) -> None:
    """Bytes of good requests changed, cut out or doubled: nothing but documented answers."""
    chance = random.Random(0)
    body, headers = binary_request(struct.pack("<I", len(PNG)) + PNG)
    form = httpx.Request("POST", server.url, files={"images": PNG}, data={"task": "task0"})
    data = base64.b64encode(PNG).decode()
    requests = [
        (INFER, body, headers),
        (PREDICT, form.read(), {"Content-Type": form.headers["Content-Type"]}),
        (PREDICT, json.dumps({"task": "task0", "images": [{"data": data}]}).encode(), {}),
        (PREDICT, json.dumps({"topk": 1, "images": [{"data": data, "task": "task1"}]}).encode(), {}),
    ]
    seen: set[int] = set()
    with server.client() as client:
        for _ in range(DAMAGED):
            path, content, headers = chance.choice(requests)
            damaged = bytearray(content)
            for _ in range(chance.randint(1, 4)):
                # Mostly the head, where a byte decides.
                at = chance.randrange(len(damaged) if chance.random() < 0.3 else min(300, len(damaged)))
                kind = chance.randrange(3)
                if kind == 0:
                    damaged[at] = chance.randrange(256)
                elif kind == 1:
                    del damaged[at : at + chance.randint(1, 60)]
                else:
                    damaged[at:at] = damaged[at : at + chance.randint(1, 60)]
            answer = client.post(path, content=bytes(damaged), headers=headers)
            seen.add(answer.status_code)
            if answer.status_code != 200:
                refusal(answer)
    assert seen <= {200, 400, 404, 422}
    assert {400, 422} <= seen
    assert server.alive


DAMAGED = 300
