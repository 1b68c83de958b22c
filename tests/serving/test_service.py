"""Busy servers: 429, 504, loads that block nobody, answers of the version that was asked for."""

from __future__ import annotations

import asyncio
import base64
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.serving_for_tests import encoded_image, make_adapter, make_service, offline, running_server

from e2vpt.files.container import read_container, write_container
from e2vpt.serving.images import AskedImage
from e2vpt.serving.limits import Limits
from e2vpt.serving.refusals import Refused
from e2vpt.serving.service import Service

PNG = encoded_image(0)


def held_back(service: Service) -> threading.Event:
    """Let a service's forward passes wait for an event."""
    go, compute = threading.Event(), service._batcher._compute

    def waiting(*args: Any) -> Any:
        assert go.wait(20)
        return compute(*args)

    service._batcher._compute = waiting
    return go


def in_loop(service: Service, use: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        service.start()
        await use()
        await asyncio.wait_for(service.close(), 20)

    asyncio.run(main())


def asked(task: str, num: int = 1) -> list[AskedImage]:
    return [AskedImage(name=str(index), task=task, data=PNG) for index in range(num)]


def test_a_full_queue_answers_429_and_then_goes_on(adapters: dict[str, Path]) -> None:
    service = make_service(adapters, Limits(queue=3, max_batch=2, max_wait=0))
    go = held_back(service)
    with running_server(service) as server, server.client() as client, ThreadPoolExecutor(3) as pool:

        def post() -> int:
            files, data = {"images": PNG}, {"task": "task0"}
            return client.post("/v1/predict", files=files, data=data).status_code

        waiting = [pool.submit(post) for _ in range(3)]
        while service._batcher.accepted < 3:
            time.sleep(0.005)
        refused = client.post("/v1/predict", files={"images": PNG}, data={"task": "task1"})
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) >= 1
        assert "would exceed 3" in refused.json()["error"]
        go.set()
        assert [answer.result() for answer in waiting] == [200] * 3
        assert post() == 200


def test_an_image_past_its_deadline_gets_504_and_is_not_computed(adapters: dict[str, Path]) -> None:
    service = make_service(adapters, Limits(deadline=0.3, max_batch=1, queue=4, max_wait=0))
    go = held_back(service)
    computed: list[int] = []
    service._batcher._on_batch = lambda report: computed.append(report.num_images)
    with running_server(service) as server, server.client() as client, ThreadPoolExecutor(3) as pool:

        def post(_: int) -> tuple[int, str]:
            answer = client.post("/v1/predict", files={"images": PNG}, data={"task": "task0"})
            return answer.status_code, answer.text

        for status, text in pool.map(post, range(3)):
            assert status == 504
            assert "within the deadline" in text
        assert service._batcher.accepted == 0
        service.limits = replace(service.limits, deadline=20)
        go.set()
        assert post(0)[0] == 200
    # The last one, and the first one if its pass began in time.
    assert computed in ([1], [1, 1])


def test_a_client_that_would_wait_longer_gets_the_servers_deadline(adapters: dict[str, Path]) -> None:
    service = make_service(adapters, Limits(deadline=0.3, max_wait=0))
    go = held_back(service)
    data = [base64.b64encode(PNG).decode()]
    images = {"name": "images", "datatype": "BYTES", "shape": [1], "data": data}
    an_hour = {"inputs": [images], "parameters": {"timeout": 3_600_000_000}}
    with running_server(service) as server, server.client() as client:
        answer = client.post("/v2/models/task0/infer", json=an_hour)
        go.set()
    assert answer.status_code == 504 and "within the deadline" in answer.text


def test_a_load_blocks_no_other_task(adapters: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    service = make_service(adapters)
    load, go, begun = service._tasks.load, threading.Event(), threading.Event()

    def slow(*args: Any) -> Any:
        begun.set()
        assert go.wait(20)
        return load(*args)

    monkeypatch.setattr(service._tasks, "load", slow)

    async def use() -> None:
        loading = asyncio.create_task(service.change(lambda: service.catalogue.load("task0")))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        deadline = asyncio.get_running_loop().time() + 20
        found = await service.answer(asked("task1", 2) + asked("task0"), deadline)
        assert [len(answer.logits) for answer in found] == [3, 3, 2]
        assert not loading.done()
        go.set()
        await loading

    in_loop(service, use)


def test_all_images_of_a_request_see_one_version(adapters: dict[str, Path], tmp_path: Path) -> None:
    other = make_adapter(tmp_path / "other.safetensors", 7).read_bytes()
    service = make_service({"a": adapters["task1"]}, Limits(max_batch=1), store=tmp_path / "store")
    go = held_back(service)

    async def use() -> None:
        deadline = asyncio.get_running_loop().time() + 20
        before = asyncio.create_task(service.answer(asked("a", 3), deadline))
        while service._batcher._queue.qsize() < 2:
            await asyncio.sleep(0.001)
        await service.change(lambda: service.catalogue.put("a", other))
        after = asyncio.create_task(service.answer(asked("a"), deadline))
        await asyncio.sleep(0.05)
        go.set()
        for found, path in ((await before, adapters["task1"]), (await after, tmp_path / "other.safetensors")):
            classes, scores = offline(path, PNG)
            for answer in found:
                best = answer.scores.argsort(descending=True).tolist()
                assert tuple(answer.info.classes[index] for index in best) == classes
                assert max(abs(answer.scores[best].numpy() - scores)) < 1e-5

    in_loop(service, use)


def test_tasks_that_have_no_room_together_are_computed_apart(adapters: dict[str, Path]) -> None:
    service = make_service(adapters, device_bytes=250_000)

    async def use() -> None:
        deadline = asyncio.get_running_loop().time() + 20
        found = await service.answer([image for name in adapters for image in asked(name)], deadline)
        for answer, path in zip(found, adapters.values(), strict=True):
            _, scores = offline(path, PNG)
            assert max(abs(answer.scores.sort(descending=True)[0].numpy() - scores)) < 1e-5
        assert service._tasks.slots.evictions > 0

    in_loop(service, use)


def test_a_task_that_computes_no_numbers_says_so(adapters: dict[str, Path], tmp_path: Path) -> None:
    header, tensors, _ = read_container(adapters["task0"])
    path = tmp_path / "large.safetensors"
    write_container(path, header, tensors | {"head.weight": torch.full_like(tensors["head.weight"], 3e38)})
    service = make_service({"large": path, "task1": adapters["task1"]}, Limits(max_wait=0.2))

    async def use() -> None:
        deadline = asyncio.get_running_loop().time() + 20
        bad, good = await asyncio.gather(
            service.answer(asked("large"), deadline),
            service.answer(asked("task1"), deadline),
            return_exceptions=True,
        )
        assert isinstance(bad, Refused)
        assert (bad.status, "not finite" in bad.reason) == (500, True)
        assert isinstance(good, list)

    in_loop(service, use)


def test_a_task_removed_meanwhile_is_unknown(adapters: dict[str, Path]) -> None:
    service = make_service(adapters)

    async def use() -> None:
        deadline = asyncio.get_running_loop().time() + 20
        service._tasks.remove("task0")  # The catalogue has not heard of it yet.
        with pytest.raises(Refused, match="no task 'task0' any more") as refused:
            await service.answer(asked("task0"), deadline)
        assert refused.value.status == 404
        assert service._batcher.accepted == 0

    in_loop(service, use)
