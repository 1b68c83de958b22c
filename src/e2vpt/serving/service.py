"""A server without its protocol: images and tasks in, logits out; tasks loaded and replaced meanwhile.

Shapes: C classes of a task.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from e2vpt.adapters.info import AdapterInfo
from e2vpt.errors import AdapterError, ConfigError
from e2vpt.multitask.tasks import LoadedTask, MultiTask
from e2vpt.serving.batcher import Batcher
from e2vpt.serving.catalogue import Catalogue, shown_name
from e2vpt.serving.images import AskedImage, opened
from e2vpt.serving.limits import Limits
from e2vpt.serving.metrics import ServerMetrics
from e2vpt.serving.refusals import Refused
from e2vpt.serving.store import Store

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AnsweredImage:
    """What was computed for an image of a request.

    Attributes:
        info: of the adapter that computed it.
        logits: [C].
        scores: their softmax [C].
    """

    info: AdapterInfo
    logits: Tensor
    scores: Tensor


class Service:
    """Tasks, their catalogue, and the batcher that computes. Its methods belong to one event loop.

    Decoding, loading and computing each have threads of their own: none of them waits for another, and the
    loop waits for none.
    """

    def __init__(self, tasks: MultiTask, limits: Limits, store: Store | None = None) -> None:
        self.limits = limits
        self.metrics = ServerMetrics(tasks)
        self.catalogue = Catalogue(tasks, store, self.metrics.on_load)
        self._tasks = tasks
        self._batcher = Batcher(
            self._computed,
            max_batch=limits.max_batch,
            max_wait=limits.max_wait,
            limit=limits.queue,
            on_batch=self.metrics.on_batch,
        )
        self._decoding = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="decode")
        self._loading = ThreadPoolExecutor(1, thread_name_prefix="load")

    def start(self) -> None:
        """Begin to answer, in the running event loop."""
        self._batcher.start()

    async def close(self) -> None:
        """Accept nothing more; return when everything accepted is answered."""
        await self._batcher.close()
        # What is left is of requests that were given up; waiting for it would block the event loop.
        self._decoding.shutdown(wait=False, cancel_futures=True)
        self._loading.shutdown()

    async def answer(self, images: Sequence[AskedImage], deadline: float) -> list[AnsweredImage]:
        """What each image shows, in order; `deadline` in the event loop's time.

        Raises:
            Refused: 404, an unknown task; 422, an unreadable image; 429, too much to do; 504, too late.
        """
        names = dict.fromkeys(image.task for image in images)
        for name in names:
            self.check_loaded(name)
        with self._batcher.room(len(images)):
            try:
                async with asyncio.timeout_at(deadline), asyncio.TaskGroup() as group:
                    # Once for the whole request: all its images see one version of a task.
                    tasks = await self.in_thread(lambda: {name: self._loaded(name) for name in names})
                    rows = [group.create_task(self._answered(image, tasks[image.task])) for image in images]
            except TimeoutError as error:
                raise Refused(504, "Not answered within the deadline; it will not be computed.") from error
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None
            return [row.result() for row in rows]

    def check_loaded(self, task: str) -> AdapterInfo:
        """What the adapter of a task says.

        Raises:
            Refused: 404, there is no such task, or it is not loaded.
        """
        known = self.catalogue.get(task)
        if known.info is None:
            raise Refused(404, f"Task {shown_name(task)!r} is not loaded: {known.reason}")
        return known.info

    async def change(self, change: Callable[[], T]) -> T:
        """Make a change of the catalogue, in the thread for it."""
        return await asyncio.get_running_loop().run_in_executor(self._loading, change)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do what takes a while, like decoding, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._decoding, work)

    async def _answered(self, image: AskedImage, task: LoadedTask) -> AnsweredImage:
        pixels = await self.in_thread(lambda: opened(image, task.info.preprocessing))
        logits = (await self._batcher.put(task, pixels)).float()
        if not logits.isfinite().all():
            raise Refused(500, f"Task {image.task!r} computes values that are not finite. Train it again.")
        return AnsweredImage(info=task.info, logits=logits, scores=logits.softmax(0))

    def _computed(self, images: Tensor, tasks: list[LoadedTask]) -> list[Tensor]:
        try:
            return self._tasks(images, tasks)
        except ConfigError:  # Not all of these tasks have room on the device at a time.
            half = len(tasks) // 2
            if not half:
                raise
            return self._computed(images[:half], tasks[:half]) + self._computed(images[half:], tasks[half:])

    def _loaded(self, name: str) -> LoadedTask:
        try:
            return self._tasks.loaded(name)
        except ConfigError as error:  # Removed since the request was looked at.
            raise Refused(404, f"There is no task {shown_name(name)!r} any more.") from error
        except AdapterError as error:
            raise Refused(
                503, f"Task {shown_name(name)!r} cannot be read again: its file has changed."
            ) from error
