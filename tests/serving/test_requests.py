"""Hostile requests: each gets a 4xx with a reason, and the server goes on."""

from __future__ import annotations

import base64
import io
import json
import random
import socket
import struct
import zlib
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from PIL import Image
from support.serving_for_tests import (
    ADMIN,
    AS_ADMIN,
    AS_CLIENT,
    RunningServer,
    encoded_image,
    make_adapter,
    make_service,
    running_server,
)

from e2vpt.files.container import read_container, write_container
from e2vpt.serving.limits import Limits

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


def binary_request(tail: bytes, *, shape: Any = (1,), size: Any = None) -> tuple[bytes, dict[str, str]]:
    parameters = {"binary_data_size": len(tail) if size is None else size}
    tensor = {"name": "images", "shape": shape, "datatype": "BYTES", "parameters": parameters}
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + tail, {"Inference-Header-Content-Length": str(len(head))}


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


def bomb(side: int) -> bytes:
    """A PNG of side x side black pixels in few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = zlib.compress(bytes(side // 8 + 1) * side, 9)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", row) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", "empty"),
        (b"no image", "not an image"),
        (PNG[: len(PNG) // 2], "truncated"),
        (PNG[:40], "image"),
        (bomb(20_000), "decompression bomb"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    ],
)
def test_images_that_are_none(server: RunningServer, image: bytes, reason: str) -> None:
    body, headers = binary_request(struct.pack("<I", len(image)) + image)
    data = base64.b64encode(image).decode()
    with server.client() as client:
        answers = [
            client.post(INFER, content=body, headers=headers),
            client.post(PREDICT, files={"images": ("a.png", image)}, data={"task": "task0"}),
            client.post(PREDICT, json={"task": "task0", "images": [{"data": data}]}),
        ]
    for answer in answers:
        status, found = refusal(answer)
        assert (status, reason in found) == (422, True), found
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


def test_bodies_too_long_or_compressed(adapters: dict[str, Path]) -> None:
    limits = Limits(max_body=2000, max_adapter=3000, bodies=4000)
    with running_server(make_service(adapters, limits)) as server, server.client(AS_ADMIN) as client:
        for path in (INFER, PREDICT, "/v2/repository/index", "/v2/repository/models/task0/load"):
            assert refusal(client.post(path, content=b" " * 2001)) == (
                413,
                "The body has more than 2,000 bytes. Send fewer or smaller images.",
            )
            chunks = (b" " * 500 for _ in range(8))
            assert refusal(client.post(path, content=chunks))[0] == 413
            zipped = client.post(path, content=b"x", headers={"Content-Encoding": "gzip"})
            assert refusal(zipped)[0] == 415
        assert refusal(client.put("/v1/tasks/a", content=b" " * 3001))[0] == 413
        assert server.alive


def test_bodies_that_other_requests_leave_no_room_for(adapters: dict[str, Path]) -> None:
    limits = Limits(max_body=30_000, max_adapter=1, bodies=40_000)
    with running_server(make_service(adapters, limits)) as server:
        head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nAuthorization: {AS_CLIENT['Authorization']}\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as slow, server.client() as client:
            slow.sendall(f"{head}Content-Length: 30000\r\n\r\n".encode() + b" " * 29_999)
            for _ in range(200):
                answer = client.post(PREDICT, content=b" " * 20_000)
                if answer.status_code == 429:
                    break
            assert refusal(answer) == (429, "Other requests fill the memory for bodies.")
            assert answer.headers["Retry-After"] == "1"
            slow.sendall(b" ")
            assert slow.recv(100).startswith(b"HTTP/1.1 400")
            assert refusal(client.post(PREDICT, content=b" " * 20_000))[0] == 400


def test_a_body_that_never_ends_gets_408(adapters: dict[str, Path]) -> None:
    with running_server(make_service(adapters, Limits(deadline=0.2))) as server:
        head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nAuthorization: {AS_CLIENT['Authorization']}\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as slow:
            slow.sendall(f"{head}Content-Length: 100\r\n\r\nabc".encode())
            assert slow.recv(1000).startswith(b"HTTP/1.1 408")
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


def altered(path: Path, change: dict[str, Any]) -> bytes:
    """An adapter whose tensors are replaced, its checksum right."""
    header, tensors, _ = read_container(path)
    out = path.with_suffix(".altered")
    write_container(out, header, tensors | change)
    return out.read_bytes()


def test_adapters_that_cannot_be_served(
    server: RunningServer, adapters: dict[str, Path], tmp_path: Path
) -> None:
    good = adapters["task1"].read_bytes()
    copied = tmp_path / "a.safetensors"
    copied.write_bytes(good)
    name, tensor = next((n, t) for n, t in read_container(copied)[1].items() if n.startswith("blocks"))
    other_size = make_adapter(tmp_path / "b.safetensors", 1, image_size=64)
    uploads = [
        *(b"", b"x", good[:-1], good[:100], good + b"x", b"\xff" * 8 + good[8:], b"PK\x03\x04" + good),
        *(b"\x80\x04K\x01.", struct.pack("<Q", 2**40), struct.pack("<Q", 2) + b"{}"),
        *(altered(copied, {name: tensor[..., :-1]}), altered(copied, {"head.weight": torch.zeros(3, 7)})),
        *(altered(copied, {"head.bias": torch.full((3,), torch.nan)}), altered(copied, {"x": tensor})),
        other_size.read_bytes(),
        make_adapter(tmp_path / "c.safetensors", 1, method="vpt-shallow").read_bytes(),
    ]
    with server.client(AS_ADMIN) as client:
        for upload in uploads:
            assert refusal(client.put("/v1/tasks/task1", content=upload))[0] == 422
            assert refusal(client.put("/v1/tasks/new", content=upload))[0] == 422
        names = {row["name"] for row in client.get("/v1/tasks").json()["tasks"]}
        assert names == {f"task{index}" for index in range(6)}
        assert client.post(PREDICT, files={"images": PNG}, data={"task": "task1"}).status_code == 200


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


def test_a_valid_image_of_every_mode_is_answered(server: RunningServer) -> None:
    with server.client() as client:
        for mode in ("1", "L", "LA", "P", "RGBA", "I;16", "CMYK"):
            file = io.BytesIO()
            Image.new(mode, (9, 5)).save(file, "TIFF" if mode == "CMYK" else "PNG")
            answer = client.post(PREDICT, files={"images": file.getvalue()}, data={"task": "task0"})
            assert answer.status_code == 200, answer.text
