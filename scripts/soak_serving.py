"""Many requests to `e2vpt serve` while its tasks are replaced, removed and added: are all answers right?

python scripts/soak_serving.py [--requests N] [--connections N] [--tasks N] [--max-batch B] [--naive]

Starts a server of the demo backbone as a process of its own. Every answer is held to the offline prediction
of an adapter version that was loaded while the request was under way, to 1e-5; a 404 is right only for a
task that was removed meanwhile. With --naive, `naive_server.py` is asked the same, and before it the server
without changes. Prints one JSON object; the exit code is 1 if an answer was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from e2vpt.benchmarks.load.connection import HttpAnswer, HttpConnection, http_request
from e2vpt.benchmarks.load.server import address, started

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.serving_for_tests import encoded_image, make_adapter, offline

TOKEN = "a-token-of-the-soak-test"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
VERSIONS, IMAGES = 2, 4


@dataclass
class Span:
    """A version of a task, None for none, and when it may have been what the server answered with."""

    version: int | None
    begun: float
    ended: float = math.inf


@dataclass
class Soak:
    """What the clients share."""

    url: str
    process: psutil.Process
    names: list[str]
    adapters: dict[tuple[str, int], Path]
    requests: dict[tuple[str, int], bytes]
    expected: dict[tuple[str, int, int], dict[str, float]]
    spans: dict[str, list[Span]]
    left: int
    has_changes: bool
    is_naive: bool
    seconds: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    codes: Counter[int] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    means: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def encoded(method: str, path: str, **content: Any) -> bytes:
    """The bytes of a request."""
    request = httpx.Request(method, f"http://127.0.0.1{path}", headers=HEADERS, **content)
    own = ("host", "content-length")
    headers = tuple(f"{name}: {value}" for name, value in request.headers.items() if name not in own)
    return http_request(method, path, request.read(), headers)


def is_right(soak: Soak, answer: HttpAnswer, task: str, image: int, begun: float, ended: float) -> bool:
    """Whether an answer is that of a version which was there meanwhile."""
    versions = {s.version for s in soak.spans[task] if s.begun <= ended and s.ended >= begun}
    if answer.code != 200:
        return answer.code == 404 and None in versions
    (row,) = json.loads(answer.body)["predictions"]
    found = dict(zip(row["classes"], row["scores"], strict=True))
    for version in versions - {None}:
        wanted = soak.expected[task, version or 0, image]
        if found.keys() == wanted.keys():
            return all(abs(found[name] - score) < 1e-5 for name, score in wanted.items())
    return False


async def ask(soak: Soak, connection: HttpConnection, chance: random.Random) -> None:
    """One connection: a request after the other."""
    while soak.left > 0:
        soak.left -= 1
        if soak.left % 100 == 0:
            soak.memory.append(soak.process.memory_info().rss)
        task, image = chance.choice(soak.names), chance.randrange(IMAGES)
        begun = time.monotonic()
        answer = await connection.send(soak.requests[task, image])
        ended = time.monotonic()
        soak.codes[answer.code] += 1
        soak.seconds.append(ended - begun)
        if not is_right(soak, answer, task, image, begun, ended):
            soak.wrong.append(f"{task} {answer.code} {answer.body[:200]!r}")


async def change(soak: Soak, connection: HttpConnection, chance: random.Random) -> None:
    """Replace, remove and add tasks until the clients are done."""
    while soak.left > 0:
        task = chance.choice(soak.names)
        now = soak.spans[task][-1].version
        is_removed = now is not None and chance.random() < 0.2
        target = None if is_removed else chance.choice([v for v in range(VERSIONS) if v != now])
        soak.spans[task].append(Span(target, time.monotonic()))
        if target is None:
            method, request = "DELETE", encoded("DELETE", f"/v1/tasks/{task}")
        else:
            content = soak.adapters[task, target].read_bytes()
            method, request = "PUT", encoded("PUT", f"/v1/tasks/{task}", content=content)
        answer = await connection.send(request)
        soak.spans[task][-2].ended = time.monotonic()
        soak.changes[f"{method} {answer.code}"] += 1
        await asyncio.sleep(0.05)


async def run(soak: Soak, connections: int) -> float:
    """All connections at once; returns the seconds that it took."""
    opened = [await HttpConnection.opened(*address(soak.url)) for _ in range(connections + 1)]
    start = time.monotonic()
    async with asyncio.TaskGroup() as group:
        if soak.has_changes:
            group.create_task(change(soak, opened[0], random.Random(0)))
        for number, connection in enumerate(opened[1:]):
            group.create_task(ask(soak, connection, random.Random(number)))
    seconds = time.monotonic() - start
    for connection in opened:
        connection.close()
    if not soak.is_naive:
        soak.means = means(soak.url)
    return seconds


def means(url: str) -> dict[str, float]:
    """How large and how mixed batches were."""
    metrics = httpx.get(f"{url}/metrics").text
    figures = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    found = {}
    for name in ("images", "tasks"):
        total, count = (float(figures[f"e2vpt_batch_{name}_{part}"]) for part in ("sum", "count"))
        found[f"{name}_of_a_batch"] = round(total / count, 2)
    return found


def report(soak: Soak, seconds: float, options: argparse.Namespace) -> dict[str, Any]:
    """The figures."""
    times = sorted(soak.seconds)
    second_half = soak.memory[len(soak.memory) // 2 :]
    return {
        "options": vars(options),
        "requests": len(times),
        "seconds": round(seconds, 1),
        "requests_per_second": round(len(times) / seconds, 1),
        "p50_ms": round(1000 * times[len(times) // 2], 1),
        "p95_ms": round(1000 * times[int(len(times) * 0.95)], 1),
        "p99_ms": round(1000 * times[int(len(times) * 0.99)], 1),
        "codes": dict(soak.codes),
        "changes": dict(soak.changes),
        **soak.means,
        "wrong": len(soak.wrong),
        "first_wrong": soak.wrong[:3],
        "memory_mib": [round(min(second_half) / 2**20, 1), round(max(second_half) / 2**20, 1)],
        "memory_growth_second_half": round(max(second_half) / min(second_half) - 1, 4),
    }


def main() -> None:
    """Start a server, ask it, print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--tasks", type=int, default=50)
    parser.add_argument("--max-batch", type=int, default=32)
    parser.add_argument("--naive", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = [f"task{number}" for number in range(options.tasks)]
        adapters = {
            (task, version): make_adapter(folder / f"{task}-{version}", VERSIONS * number + version)
            for number, task in enumerate(names)
            for version in range(VERSIONS)
        }
        images = [encoded_image(seed) for seed in range(IMAGES)]
        expected = {
            (*key, index): dict(zip(*offline(path, image), strict=True))
            for key, path in adapters.items()
            for index, image in enumerate(images)
        }
        reports = [
            soaked(folder, names, adapters, images, expected, options, is_naive=is_naive)
            for is_naive in ([False, True] if options.naive else [False])
        ]
    print(json.dumps(reports, indent=1))
    sys.exit(1 if any(found["wrong"] for found in reports) else 0)


def soaked(
    folder: Path,
    names: list[str],
    adapters: dict[tuple[str, int], Path],
    images: list[bytes],
    expected: dict[tuple[str, int, int], dict[str, float]],
    options: argparse.Namespace,
    *,
    is_naive: bool,
) -> dict[str, Any]:
    """The report of one server."""
    command = [sys.executable, "-m", "e2vpt", "serve", "--port", "0", "--store", str(folder / "store")]
    command += ["--max-batch", str(options.max_batch)]
    if is_naive:
        command = [sys.executable, str(Path(__file__).with_name("naive_server.py"))]
    command += [f"{task}={adapters[task, 0]}" for task in names]
    with started(command, {**os.environ, "E2VPT_ADMIN_TOKEN": TOKEN}) as (url, server):
        soak = Soak(
            url=url,
            process=psutil.Process(server.pid),
            names=names,
            adapters=adapters,
            requests={
                (task, index): encoded(
                    "POST", "/v1/predict", files={"images": image}, data={"task": task, "topk": "9"}
                )
                for task in names
                for index, image in enumerate(images)
            },
            expected=expected,
            spans={task: [Span(0, 0.0)] for task in names},
            left=options.requests,
            has_changes=not options.naive,
            is_naive=is_naive,
        )
        seconds = asyncio.run(run(soak, options.connections))
    return {"server": "naive" if is_naive else "e2vpt serve"} | report(soak, seconds, options)


if __name__ == "__main__":
    main()
