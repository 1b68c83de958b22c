"""Requests at a rate, in the open: the next one comes when it is due, whether or not the last is answered.

Latency counts from the moment a request is due, so a server that falls behind shows it; a client that waits
for an answer before it asks again would hide that.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from e2vpt.benchmarks.load.connection import HttpConnection, http_request
from e2vpt.config.fields import check_count, check_number, require
from e2vpt.errors import RunError

_BROKEN = (OSError, EOFError, ValueError, IndexError)
"""What a connection raises that breaks, or whose answer is no HTTP."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What is asked of a server.

    Attributes:
        host, port: where it listens.
        tasks: names; each request is for one of them, drawn at random.
        images: encoded images; each request has one.
        rate: requests a second, their distances drawn from an exponential distribution.
        seconds: how long.
        connections: open at a time; a request that finds none free waits for one.
        token: for `Authorization`, or "".
        seed: of all that is drawn.
    """

    host: str
    port: int
    tasks: Sequence[str]
    images: Sequence[bytes]
    rate: float = 50.0
    seconds: float = 20.0
    connections: int = 64
    token: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        check_number("rate", self.rate, 0.01, 1e6)
        check_number("seconds", self.seconds, 0.1, 86400)
        check_count("connections", self.connections, 1, 10_000)
        require(bool(self.tasks), "The server has no task to ask.")
        require(bool(self.images), "There is no image to send.")


@dataclass(slots=True)
class LoadAnswers:
    """What came back.

    Attributes:
        latencies: seconds from when a request was due to its answer, of those answered with 200.
        codes: how often each status came; 0 for a connection that broke.
        seconds: from the first request that was due to the last answer.
        images_of_a_batch, tasks_of_a_batch: means over the server's batches meanwhile; None where it does not
            say.
    """

    latencies: list[float] = field(default_factory=list)
    codes: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0
    images_of_a_batch: float | None = None
    tasks_of_a_batch: float | None = None


def generate(load: Load, on_answers: Callable[[int, int], None] = lambda done, total: None) -> LoadAnswers:
    """Put the load on the server, and wait for every answer; `on_answers` is told (done, total).

    Raises:
        RunError: nobody listens there.
    """
    return asyncio.run(_generate(load, on_answers))


async def _generate(load: Load, on_answers: Callable[[int, int], None]) -> LoadAnswers:
    chance = random.Random(load.seed)
    due, moments = 0.0, []
    while (due := due + chance.expovariate(load.rate)) < load.seconds:
        moments.append(due)
    headers = ("Content-Type: application/json", *_authorization(load))
    asked = {
        (task, index): http_request("POST", "/v1/predict", _body(task, image), headers)
        for task in load.tasks
        for index, image in enumerate(load.images)
    }
    free: asyncio.Queue[HttpConnection | None] = asyncio.Queue()
    try:
        for _ in range(min(load.connections, max(1, len(moments)))):
            free.put_nowait(await HttpConnection.opened(load.host, load.port))
    except OSError as error:
        raise RunError(f"Nobody answers at {load.host}:{load.port}: {error}.") from error
    answers, before = LoadAnswers(), await _batches(load)
    start = time.monotonic()

    async def ask(moment: float, request: bytes) -> None:
        connection = await free.get()
        try:
            # One that broke is opened again by the next request: a server that is gone loses that one too.
            connection = connection or await HttpConnection.opened(load.host, load.port)
            code = (await connection.send(request)).code
        except _BROKEN:
            _close(connection)
            code, connection = 0, None
        free.put_nowait(connection)
        answers.codes[code] += 1
        if code == 200:
            answers.latencies.append(time.monotonic() - start - moment)
        on_answers(sum(answers.codes.values()), len(moments))

    async with asyncio.TaskGroup() as group:
        for moment in moments:
            await asyncio.sleep(max(0.0, start + moment - time.monotonic()))
            task, index = chance.choice(load.tasks), chance.randrange(len(load.images))
            group.create_task(ask(moment, asked[task, index]))
    answers.seconds = time.monotonic() - start
    _note_batches(answers, before, await _batches(load))
    while not free.empty():
        _close(free.get_nowait())
    return answers


def _close(connection: HttpConnection | None) -> None:
    if connection is not None:
        connection.close()


def _body(task: str, image: bytes) -> bytes:
    content = {"task": task, "images": [{"data": base64.b64encode(image).decode()}], "topk": 1}
    return json.dumps(content).encode()


def _authorization(load: Load) -> tuple[str, ...]:
    return (f"Authorization: Bearer {load.token}",) if load.token else ()


async def _batches(load: Load) -> dict[str, float]:
    """Sums and counts of batches, from the server's metrics; none of a server that is gone."""
    connection = None
    try:
        connection = await HttpConnection.opened(load.host, load.port)
        answer = await connection.send(http_request("GET", "/metrics", headers=_authorization(load)))
    except _BROKEN:
        return {}
    finally:
        _close(connection)
    lines = answer.body.decode(errors="replace").splitlines() if answer.code == 200 else []
    figures = [line.rsplit(" ", 1) for line in lines if line.startswith("e2vpt_batch_")]
    return {name: float(value) for name, value in figures if "{" not in name}


def _note_batches(answers: LoadAnswers, before: dict[str, float], after: dict[str, float]) -> None:
    for of in ("images", "tasks"):
        names = (f"e2vpt_batch_{of}_sum", f"e2vpt_batch_{of}_count")
        if all(name in after for name in names):
            total, count = (after[name] - before.get(name, 0.0) for name in names)
            setattr(answers, f"{of}_of_a_batch", total / count if count else None)
