"""Bodies that are too long, compressed, without room, or never end."""

from __future__ import annotations

import socket
from pathlib import Path

from support.requests_for_tests import INFER, PREDICT, refusal
from support.serving_for_tests import AS_ADMIN, AS_CLIENT, make_service, running_server

from e2vpt.serving.limits import Limits


def test_bodies_too_long_or_compressed(adapters: dict[str, Path], tmp_path: Path) -> None:
    limits = Limits(max_body=2000, max_adapter=3000, bodies=4000)
    service = make_service(adapters, limits, tmp_path / "store")
    with running_server(service) as server, server.client(AS_ADMIN) as client:
        for path in (INFER, PREDICT, "/v2/repository/index", "/v2/repository/models/task0/load"):
            assert refusal(client.post(path, content=b" " * 2001)) == (
                413,
                "The body has more than 2,000 bytes, the most read here. Send fewer or smaller files.",
            )
            chunks = (b" " * 500 for _ in range(8))
            assert refusal(client.post(path, content=chunks))[0] == 413
            zipped = client.post(path, content=b"x", headers={"Content-Encoding": "gzip"})
            assert refusal(zipped)[0] == 415
        for size, status in ((2500, 422), (3000, 422), (3001, 413)):  # 422: read, and no adapter
            assert refusal(client.put("/v1/tasks/a", content=b" " * size))[0] == status
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
