"""Load in the open: every due request is asked, late answers count from when they were due."""

from __future__ import annotations

import asyncio
import csv
import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.serving_for_tests import TOKEN, make_adapters, make_service, running_server

from e2vpt.benchmarks.load.generator import Load, generate
from e2vpt.benchmarks.load.report import load_row, write_load_report
from e2vpt.benchmarks.load.server import address, noise_images, task_names
from e2vpt.errors import ConfigError, RunError


@contextmanager
def answering(
    delay: float, body: bytes = b"{}", code: int = 200, lasts: float = math.inf
) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """A server of a few lines that waits before it answers: its port, and what it was asked.

    After `lasts` requests it goes away: it answers nobody, and takes no more connections.
    """
    asked: list[dict[str, Any]] = []
    started, stop = threading.Event(), asyncio.Event()
    found: dict[str, Any] = {}

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                content = await reader.readexactly(length)
                if head.startswith(b"POST"):
                    asked.append(json.loads(content))
                    await asyncio.sleep(delay)
                if len(asked) > lasts:
                    found["server"].close()
                    writer.transport.abort()
                    return
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (code, len(body)) + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        found.update(port=server.sockets[0].getsockname()[1], loop=asyncio.get_running_loop(), server=server)
        started.set()
        await stop.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield found["port"], asked
    finally:
        found["loop"].call_soon_threadsafe(stop.set)
        thread.join(10)


def load(port: int, **options: Any) -> Load:
    settings = {"tasks": ["a", "b"], "images": [b"x", b"yy"], "rate": 100.0, "seconds": 0.5} | options
    return Load(host="127.0.0.1", port=port, **settings)


def test_every_due_request_is_asked_whatever_comes_back() -> None:
    with answering(0.0) as (port, asked):
        told: list[tuple[int, int]] = []
        answers = generate(load(port), lambda *done: told.append(done))
        again = generate(load(port))
    assert sum(answers.codes.values()) == len(asked) / 2 == told[-1][0] == told[-1][1]
    assert {request["task"] for request in asked} == {"a", "b"} and again.codes == answers.codes
    assert 20 < answers.codes[200] < 90, "a hundred a second for half a second"


def test_waiting_for_a_connection_counts() -> None:
    """One connection at a time, each busy for 50 ms: the last of those due at once waits for all others."""
    with answering(0.05) as (port, asked):
        answers = generate(load(port, connections=1, rate=200.0, seconds=0.1))
    assert max(answers.latencies) >= 0.05 * (len(asked) - 1) - 0.1
    assert answers.seconds >= 0.05 * len(asked)


def test_refusals_are_counted_and_not_timed(tmp_path: Path) -> None:
    with answering(0.0, code=429) as (port, _):
        asked = load(port)
        answers = generate(asked)
    assert set(answers.codes) == {429} and answers.latencies == []
    row = load_row(asked, answers)
    text = write_load_report(tmp_path, asked, [row], {"device": "some CPU"})
    assert (tmp_path / "serve.md").read_text() == text and f"429: {answers.codes[429]}" in text
    with (tmp_path / "serve.csv").open() as file:
        (found,) = csv.DictReader(file)
    assert found["other_codes"] == f"429: {answers.codes[429]}" and float(found["rate"]) == 100


def test_a_server_that_goes_away_loses_what_is_still_due(tmp_path: Path) -> None:
    with answering(0.0, lasts=15) as (port, _):
        asked = load(port, connections=4)
        answers = generate(asked)
        with pytest.raises(RunError, match="Nobody answers at 127"):
            generate(asked)
    assert answers.codes[200] == len(answers.latencies) == 15
    assert answers.codes.keys() == {0, 200} and 20 < sum(answers.codes.values()) < 90
    assert answers.images_of_a_batch is None
    row = load_row(asked, answers)
    assert row["other_codes"] == f"0: {answers.codes[0]}"


def test_our_server_says_what_its_batches_were(tmp_path: Path) -> None:
    with running_server(make_service(make_adapters(tmp_path, 3))) as server:
        host, port = address(server.url)
        names = task_names(server.url, TOKEN)
        assert names == ["task0", "task1", "task2"]
        asked = Load(
            host=host, port=port, tasks=names, images=noise_images(24), rate=40.0, seconds=0.5, token=TOKEN
        )
        answers = generate(asked)
        with pytest.raises(RunError, match="does not list its tasks"):
            task_names(server.url, "wrong")
    assert set(answers.codes) == {200}
    assert answers.images_of_a_batch is not None and answers.images_of_a_batch >= 1
    assert answers.tasks_of_a_batch is not None and answers.tasks_of_a_batch >= 1


def test_nobody_there_and_nothing_to_ask() -> None:
    with pytest.raises(RunError, match="Nobody answers at 127"):
        generate(load(1))
    with pytest.raises(ConfigError, match="no task to ask"):
        load(1, tasks=[])
    with pytest.raises(ConfigError, match="rate is 0"):
        load(1, rate=0.0)


@pytest.mark.parametrize("url", ["https://a:1", "a:1", "http://", "http://a:x", "http://a:1/path"])
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ConfigError, match="expected http://HOST:PORT"):
        address(url)
