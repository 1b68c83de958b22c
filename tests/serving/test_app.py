"""Answers over HTTP are those of the library, whoever shares the batch."""

from __future__ import annotations

import asyncio
import base64
import random
from pathlib import Path

import httpx
import pytest
from support.serving_for_tests import AS_CLIENT, RunningServer, encoded_image, offline

CLOSE = 1e-5


def close(found: list[float], wanted: tuple[float, ...]) -> bool:
    return len(found) == len(wanted) and max(abs(f - w) for f, w in zip(found, wanted, strict=True)) < CLOSE


def test_mixed_concurrent_requests_equal_separate_predictions(
    server: RunningServer, adapters: dict[str, Path]
) -> None:
    images = [encoded_image(seed) for seed in range(4)]
    wanted = {
        (name, index): offline(path, image)
        for name, path in adapters.items()
        for index, image in enumerate(images)
    }
    asked = [key for key in wanted for _ in range(3)]
    random.Random(0).shuffle(asked)

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=server.url, headers=AS_CLIENT, timeout=30) as client:
            posts = [
                client.post("/v1/predict", files={"images": images[index]}, data={"task": name, "topk": "10"})
                for name, index in asked
            ]
            return await asyncio.gather(*posts)

    for key, answer in zip(asked, asyncio.run(ask()), strict=True):
        assert answer.status_code == 200, answer.text
        (row,) = answer.json()["predictions"]
        classes, scores = wanted[key]
        assert (row["task"], tuple(row["classes"])) == (key[0], classes)
        assert close(row["scores"], scores)
    text = httpx.get(f"{server.url}/metrics", headers=AS_CLIENT).text
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    batches = float(figures["e2vpt_batch_images_count"])
    assert float(figures["e2vpt_batch_images_sum"]) == len(asked)
    assert batches < len(asked) / 2
    assert float(figures["e2vpt_batch_tasks_sum"]) > batches
    assert figures['e2vpt_requests_total{code="200",task="task0"}'] == "12.0"


def test_a_task_for_each_image_in_json(server: RunningServer, adapters: dict[str, Path]) -> None:
    images = [encoded_image(seed, kind="JPEG") for seed in range(3)]
    names = ["task0", "task1", "task2"]
    body = {
        "topk": 2,
        "task": "task0",
        "images": [
            {"data": base64.b64encode(image).decode(), "name": f"{name}.jpg"}
            | ({} if name == "task0" else {"task": name})
            for image, name in zip(images, names, strict=True)
        ],
    }
    with server.client() as client:
        answer = client.post("/v1/predict", json=body)
    assert answer.status_code == 200, answer.text
    for row, name, image in zip(answer.json()["predictions"], names, images, strict=True):
        classes, scores = offline(adapters[name], image, 2)
        assert (row["file"], row["task"], tuple(row["classes"])) == (f"{name}.jpg", name, classes)
        assert close(row["scores"], scores)


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/v2", "/openapi.json"])
def test_open_to_everyone(server: RunningServer, path: str) -> None:
    assert httpx.get(server.url + path).status_code == 200
