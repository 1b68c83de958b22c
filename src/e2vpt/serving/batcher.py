"""Dynamic batching across requests and tasks: one queue, one thread that computes.

Every image has its own task, so whatever waits goes into the next batch, in the order in which it came.
Shapes: B images, C classes of a task.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from e2vpt.multitask.tasks import LoadedTask
from e2vpt.serving.logs import LOGGER
from e2vpt.serving.refusals import Refused

Compute = Callable[[Tensor, list[LoadedTask]], list[Tensor]]


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    task: LoadedTask
    image: Tensor
    answer: asyncio.Future[Tensor]
    since: float


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchReport:
    """One batch that was computed.

    Attributes:
        num_images, num_tasks: in it.
        waited: seconds that each image was in the queue.
        seconds: the computation took.
    """

    num_images: int
    num_tasks: int
    waited: Sequence[float]
    seconds: float


class Batcher:
    """Gathers images into batches and computes them, one batch at a time, in a thread of its own.

    Whoever no longer waits for an answer cancels it; an image cancelled in the queue is not computed.

    Args:
        compute: images [B, 3, h, w] of one size and their tasks to logits, a [C] for each.
        max_batch: images of a batch, B.
        max_wait: seconds that the first image of a batch waits for others.
        limit: images accepted and not yet answered.
        on_batch: is told of every batch.
    """

    def __init__(
        self,
        compute: Compute,
        *,
        max_batch: int,
        max_wait: float,
        limit: int,
        on_batch: Callable[[BatchReport], None] = lambda _: None,
    ) -> None:
        self._compute = compute
        self._max_batch, self._max_wait, self._limit = max_batch, max_wait, limit
        self._on_batch = on_batch
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._accepted = 0
        self._seconds_per_image = 0.0
        self._closing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="forward")
        self._running: asyncio.Task[None] | None = None

    @property
    def accepted(self) -> int:
        """Images accepted and not yet answered."""
        return self._accepted

    def start(self) -> None:
        """Begin to compute, in the running event loop."""
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Accept nothing more, and return when everything accepted is answered."""
        self._closing = True
        while self._accepted:
            await asyncio.sleep(0.01)
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
        self._thread.shutdown()

    @contextlib.contextmanager
    def room(self, images: int) -> Iterator[None]:
        """Places for the images of a request, until the end of the block.

        Raises:
            Refused: 429, there are not so many; 503, the server stops.
        """
        if self._closing:
            raise Refused(503, "The server is shutting down. Ask another one.")
        if self._accepted + images > self._limit:
            seconds = math.ceil(self._accepted * self._seconds_per_image) or 1
            raise Refused(
                429,
                f"{self._accepted} images are waiting and {images} more would exceed {self._limit}. "
                f"Try again in {seconds} s.",
                Retry_After=str(seconds),
            )
        self._accepted += images
        try:
            yield
        finally:
            self._accepted -= images

    def put(self, task: LoadedTask, image: Tensor) -> asyncio.Future[Tensor]:
        """The logits [C] of an image [3, h, w], float32 on the CPU, when they are computed."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(task, image, loop.create_future(), loop.time())
        self._queue.put_nowait(waiting)
        return waiting.answer

    async def _run(self) -> None:
        while True:
            batch = [row for row in await self._gather() if not row.answer.done()]
            for rows in _of_one_size(batch):
                await self._answer(rows)

    async def _gather(self) -> list[_Waiting]:
        batch = [await self._queue.get()]
        due = batch[0].since + self._max_wait
        while len(batch) < self._max_batch:
            if self._queue.empty() and asyncio.get_running_loop().time() >= due:
                break
            try:
                async with asyncio.timeout_at(due):
                    batch.append(await self._queue.get())
            except TimeoutError:
                break
        return batch

    async def _answer(self, rows: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        try:
            answers, seconds = await loop.run_in_executor(self._thread, self._computed, rows)
            for row, answer in zip(rows, answers, strict=True):
                if not row.answer.done():
                    row.answer.set_result(answer)
            self._report(rows, start, seconds)
        except Exception as error:  # This batch has failed; the next one is computed all the same.
            logging.getLogger(LOGGER).error("batch", exc_info=error)
            for row in rows:
                if not row.answer.done():
                    row.answer.set_exception(error)

    def _report(self, rows: Sequence[_Waiting], start: float, seconds: float) -> None:
        recent = self._seconds_per_image or seconds / len(rows)
        self._seconds_per_image = 0.8 * recent + 0.2 * seconds / len(rows)
        self._on_batch(
            BatchReport(
                num_images=len(rows),
                num_tasks=len({id(row.task.values) for row in rows}),
                waited=[start - row.since for row in rows],
                seconds=seconds,
            )
        )

    def _computed(self, rows: Sequence[_Waiting]) -> tuple[list[Tensor], float]:
        start = perf_counter()
        logits = self._compute(torch.stack([row.image for row in rows]), [row.task for row in rows])
        sizes = [len(row) for row in logits]
        # One copy from the device for the whole batch.
        together = torch.cat(logits).float().cpu()
        return list(torch.split(together, sizes)), perf_counter() - start


def _of_one_size(rows: Sequence[_Waiting]) -> list[list[_Waiting]]:
    """Some backbones take images of several sizes, a batch only one."""
    by_size: dict[torch.Size, list[_Waiting]] = {}
    for row in rows:
        by_size.setdefault(row.image.shape, []).append(row)
    return list(by_size.values())
