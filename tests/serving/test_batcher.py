"""The batcher alone, with a computation that the tests hold back and let go."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import cast

import pytest
import torch
from torch import Tensor

import e2vpt.serving.batcher
from e2vpt.multitask.tasks import LoadedTask
from e2vpt.multitask.values import TaskValues
from e2vpt.serving.batcher import Batcher, BatchReport
from e2vpt.serving.refusals import Refused


def task(number: int) -> LoadedTask:
    """A task whose logits are as many as its number, all of the image's first value."""
    values = TaskValues(digest=str(number), by_name={}, head=(torch.zeros(0, 0), torch.zeros(number)))
    return LoadedTask(info=cast("object", None), values=values)  # type: ignore[arg-type]


def image(value: float, size: int = 2) -> Tensor:
    return torch.full((3, size, size), value)


class Computation:
    """Records batches; waits in each for `go`."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.go = threading.Event()
        self.begun = threading.Event()
        self.go.set()

    def __call__(self, images: Tensor, tasks: list[LoadedTask]) -> list[Tensor]:
        self.begun.set()
        assert self.go.wait(10)
        self.batches.append(images[:, 0, 0, 0].tolist())
        if -1 in self.batches[-1]:
            raise RuntimeError("cannot compute")
        pairs = zip(images, tasks, strict=True)
        return [pixels[0, 0, 0].expand(len(task.values.head[1])) for pixels, task in pairs]


def running(
    use: Callable[[Batcher, Computation], Awaitable[None]],
    *,
    max_batch: int = 4,
    max_wait: float = 0.0,
    limit: int = 100,
    on_batch: Callable[[BatchReport], None] = lambda _: None,
) -> Computation:
    """Use a batcher in an event loop, then close it."""
    compute = Computation()

    async def main() -> None:
        batcher = Batcher(compute, max_batch=max_batch, max_wait=max_wait, limit=limit, on_batch=on_batch)
        batcher.start()
        await use(batcher, compute)
        compute.go.set()
        await asyncio.wait_for(batcher.close(), 10)

    asyncio.run(main())
    return compute


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds, for at most ten seconds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def test_what_waits_goes_into_one_batch_in_order() -> None:
    reports: list[BatchReport] = []

    async def use(batcher: Batcher, compute: Computation) -> None:
        compute.go.clear()
        tasks = [task(1), task(2), task(3)]
        first = batcher.put(tasks[0], image(0))
        await until(compute.begun.is_set)
        rest = [batcher.put(tasks[value % 3], image(value)) for value in range(1, 7)]
        compute.go.set()
        answers = await asyncio.gather(first, *rest)
        assert [answer.tolist() for answer in answers] == [[v] * (v % 3 + 1) for v in range(7)]

    compute = running(use, on_batch=reports.append)
    assert compute.batches == [[0], [1, 2, 3, 4], [5, 6]]
    assert [(report.num_images, report.num_tasks) for report in reports] == [(1, 1), (4, 3), (2, 2)]
    assert all(len(report.waited) == report.num_images for report in reports)


def test_a_batch_waits_for_others_but_not_when_it_is_full() -> None:
    async def use(batcher: Batcher, compute: Computation) -> None:
        a = batcher.put(task(1), image(1))
        await asyncio.sleep(0.02)
        assert not compute.begun.is_set()
        b = batcher.put(task(2), image(2))
        async with asyncio.timeout(10):
            await asyncio.gather(a, b)

    assert running(use, max_batch=2, max_wait=3600).batches == [[1, 2]]
    assert running(use, max_batch=3, max_wait=0.5).batches == [[1, 2]]


def test_waiting_begins_when_an_image_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the clock two hours go by while the batch before is computed; then nobody waits another hour."""
    reports: list[BatchReport] = []

    async def use(batcher: Batcher, compute: Computation) -> None:
        compute.go.clear()
        first = [batcher.put(task(1), image(value)) for value in (1, 2)]
        await until(compute.begun.is_set)
        second = batcher.put(task(1), image(3))
        loop = asyncio.get_running_loop()
        real = loop.time
        monkeypatch.setattr(loop, "time", lambda: real() + 7200)
        compute.go.set()
        async with asyncio.timeout(10):
            await asyncio.gather(*first, second)
        await until(lambda: len(reports) == 2)

    assert running(use, max_batch=2, max_wait=3600, on_batch=reports.append).batches == [[1, 2], [3]]
    assert reports[1].waited == [pytest.approx(7200, abs=60)]
    assert reports[0].waited == [pytest.approx(0, abs=60)] * 2


def test_a_cancelled_image_is_not_computed() -> None:
    async def use(batcher: Batcher, compute: Computation) -> None:
        compute.go.clear()
        first = batcher.put(task(1), image(1))
        await until(compute.begun.is_set)
        second, third = batcher.put(task(1), image(2)), batcher.put(task(1), image(3))
        second.cancel()
        compute.go.set()
        assert (await first).tolist() == [1]
        assert (await third).tolist() == [3]

    assert running(use).batches == [[1], [3]]


def test_images_of_several_sizes_are_computed_apart() -> None:
    async def use(batcher: Batcher, compute: Computation) -> None:
        compute.go.clear()
        first = batcher.put(task(1), image(0))
        await until(compute.begun.is_set)
        rest = [batcher.put(task(1), image(value, 2 + value % 2)) for value in range(1, 5)]
        compute.go.set()
        answers = await asyncio.gather(first, *rest)
        assert [float(answer) for answer in answers] == [0, 1, 2, 3, 4]

    assert running(use).batches == [[0], [1, 3], [2, 4]]


def test_a_batch_that_fails_fails_alone() -> None:
    async def use(batcher: Batcher, compute: Computation) -> None:
        compute.go.clear()
        first = batcher.put(task(1), image(0))
        await until(compute.begun.is_set)
        bad = [batcher.put(task(1), image(value)) for value in (-1, 1)]
        compute.go.set()
        await first
        for answer in await asyncio.gather(*bad, return_exceptions=True):
            assert isinstance(answer, RuntimeError)
        assert (await batcher.put(task(1), image(2))).tolist() == [2]

    assert running(use).batches == [[0], [-1, 1], [2]]


def test_a_report_that_fails_stops_nothing() -> None:
    def broken(_: BatchReport) -> None:
        raise RuntimeError("nobody counts")

    async def use(batcher: Batcher, compute: Computation) -> None:
        for value in (1, 2):
            async with asyncio.timeout(10):
                assert (await batcher.put(task(1), image(value))).tolist() == [value]

    assert running(use, on_batch=broken).batches == [[1], [2]]


def test_the_queue_is_bounded() -> None:
    async def use(batcher: Batcher, compute: Computation) -> None:
        with batcher.room(2), batcher.room(1):
            assert batcher.accepted == 3
            with pytest.raises(Refused, match=r"3 images are waiting and 1 more would exceed 3\.") as refused:
                batcher.room(1).__enter__()
            assert refused.value.status == 429
            assert refused.value.headers == {"Retry-After": "1"}
        with batcher.room(3):
            assert batcher.accepted == 3

    running(use, limit=3)


def test_who_is_refused_comes_again_when_the_queue_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image takes 10 s, then two of a batch 20 s each: 12 s on average, of which the last are a fifth."""
    reports: list[BatchReport] = []
    clock = iter([0.0, 10.0, 100.0, 140.0])
    monkeypatch.setattr(e2vpt.serving.batcher, "perf_counter", lambda: next(clock))

    async def use(batcher: Batcher, compute: Computation) -> None:
        await batcher.put(task(1), image(1))
        await asyncio.gather(*(batcher.put(task(1), image(value)) for value in (2, 3)))
        await until(lambda: len(reports) == 2)
        with batcher.room(3), pytest.raises(Refused, match=r"Try again in 36 s\.") as refused:
            batcher.room(1).__enter__()
        assert refused.value.headers == {"Retry-After": "36"}

    assert running(use, limit=3, on_batch=reports.append).batches == [[1], [2, 3]]
    assert [report.seconds for report in reports] == [10, 40]


def test_closing_finishes_what_was_accepted_and_accepts_no_more() -> None:
    async def use(batcher: Batcher, compute: Computation) -> None:
        compute.go.clear()

        async def ask(value: float) -> list[float]:
            with batcher.room(1):
                return (await batcher.put(task(1), image(value))).tolist()  # type: ignore[no-any-return]

        asked = [asyncio.create_task(ask(value)) for value in range(6)]
        await until(lambda: batcher.accepted == 6 and compute.begun.is_set())
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0.02)
        with pytest.raises(Refused, match="shutting down") as refused:
            batcher.room(1).__enter__()
        assert refused.value.status == 503
        assert not closing.done()
        compute.go.set()
        await closing
        assert await asyncio.gather(*asked) == [[value] for value in range(6)]

    compute = running(use)
    assert [value for batch in compute.batches for value in batch] == [0, 1, 2, 3, 4, 5]
